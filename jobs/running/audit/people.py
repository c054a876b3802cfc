"""A site's patients, halves of them, and single slices, as training sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightning_modules.evaluation.panels import middle_slice
from lightning_modules.evaluation.validation import Patient, patients
from lightning_modules.seeding import derive_seed
from partitions.manifest import PATIENT_ID, SPLITS
from partitions.preparation import PreparedSite, PreparedSplit, PreparedSubject
from partitions.preparation.configuration import DOMAINS


@dataclass(frozen=True)
class Person:
    """One patient of a site, with all scans, whichever split they are in.

    Attributes:
        name: as the site calls the patient.
        scans: the split and the scan.
    """

    name: str
    scans: tuple[tuple[str, PreparedSubject], ...]


def people(site: PreparedSite) -> tuple[Person, ...]:
    """The patients of a site that have both images, in order of their names."""
    found: dict[str, list[tuple[str, PreparedSubject]]] = {}
    for split in SPLITS:
        for subject in site.split(split).subjects:
            if subject.domains == DOMAINS and subject.stop > subject.start:
                name = str(subject.metadata.get(PATIENT_ID) or subject.subject)
                found.setdefault(name, []).append((split, subject))
    return tuple(Person(name, tuple(found[name])) for name in sorted(found))


def halves(site: str, number: int, pair: int, seed: int) -> NDArray[np.bool_]:
    """Which patients the two models of a pair are trained on: (2, patients), complementary."""
    order = np.random.default_rng(derive_seed(seed, "audit halves", site, pair)).permutation(number)
    first = np.zeros(number, dtype=bool)
    first[order[: number // 2]] = True
    return np.stack([first, ~first])


def splits_of(site: PreparedSite, chosen: list[Person]) -> list[PreparedSplit]:
    """The slices of some patients."""
    kept = {(split, scan.subject) for person in chosen for split, scan in person.scans}
    limited = []
    for split in SPLITS:
        arrays = site.split(split)
        subjects = tuple(s for s in arrays.subjects if (split, s.subject) in kept)
        if subjects:
            limited.append(replace(arrays, subjects=subjects))
    return limited


def images_of(site: PreparedSite, person: Person) -> list[Patient]:
    """The scans of a patient, as evaluation sees them."""
    return [patient for split in splits_of(site, [person]) for patient in patients(split)]


def middle_of(site: PreparedSite, person: Person) -> PreparedSplit:
    """The slice with the largest mask of a patient's first scan, as training data of its own."""
    name, scan = person.scans[0]
    (patient,) = patients(replace(site.split(name), subjects=(scan,)))
    place = scan.start + middle_slice(patient.mask)
    return replace(site.split(name), subjects=(replace(scan, start=place, stop=place + 1),))
