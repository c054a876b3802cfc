"""Write a division: a manifest per new site, which names the scans where they are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fedi2i.errors import DataError
from fedi2i.files import real_path, write_text
from fedi2i.typed_config import as_dict
from partitions.check.finding import refuse
from partitions.check.manifests import manifest_findings
from partitions.divisions.dividing import Division
from partitions.divisions.patients import Patient
from partitions.divisions.rules.interface import ALL_SPLITS
from partitions.manifest import (
    FILE_NAME,
    ORIGIN_SITE,
    PATIENT_ID,
    DivisionRecord,
    SiteManifest,
    SubjectRecord,
    read_manifest,
)
from partitions.preparation.corrections.shifts import SHIFT, Shift, shift_entry
from partitions.site_folders import (
    TO_BE_DRAWN,
    find_site_folders,
    path_from,
    write_site_folders,
)

FOLDS = "folds"
"""Folder of the experiment files that leave one site out."""


@dataclass(frozen=True)
class Wanted:
    """How a division is written.

    Attributes:
        out: the site folders are made here.
        dataset: name of the data set that they make.
        seed: of the split by patient.
        keep_splits: whether patients keep the splits that they had; else they are drawn anew within
            each site.
        shifts: how the images of a site are changed when they are prepared, by the site's name.
        folds: whether to write an experiment file per site in which that site only tests.
    """

    out: Path
    dataset: str
    seed: int
    keep_splits: bool = False
    shifts: Mapping[str, Shift] = field(default_factory=dict)
    folds: bool = False


def read_sources(paths: Sequence[Path], out: Path) -> tuple[SiteManifest, ...]:
    """The manifests to divide.

    Args:
        paths: manifests, site folders, or folders above them.
        out: where the division goes: neither inside these folders nor above them.

    Raises:
        DataError: a manifest is missing, damaged or contradicts another one, or ``out`` is among
            the folders.
    """
    roots = [path.parent if path.name == FILE_NAME else path for path in paths]
    goal = real_path(out)
    for root in roots:
        folder = real_path(root)
        if goal.is_relative_to(folder) or folder.is_relative_to(goal):
            raise DataError(
                f"--out {out}: the folders there would mix with those of {root}; name a folder "
                "beside it"
            )
    folders = {path.resolve(): path for root in roots for path in find_site_folders(root)}
    manifests = tuple(read_manifest(folder) for folder in folders.values())
    # Patients of several data sets may become the patients of one.
    found = [one for one in manifest_findings(manifests) if one.rule != "other-data-set"]
    refuse(found)
    return manifests


def write_division(
    division: Division, sources: Sequence[SiteManifest], wanted: Wanted
) -> tuple[SiteManifest, ...]:
    """Write the site folders of a division; scans stay where they are.

    Raises:
        DataError: a shift names no site, or see ``write_site_folders``. Nothing is written then.
    """
    sites = division.assignment.sites
    unknown = sorted(set(wanted.shifts) - set(sites))
    if unknown:
        raise DataError(f"--shift: there is no site '{unknown[0]}'; sites: {', '.join(sites)}")
    if wanted.folds and len(sites) < 2:
        raise DataError("--folds: a single site cannot be left out of the training")
    roots = {manifest.site: manifest.root for manifest in sources}
    apart = _names_are_shared(sources)
    records = [
        _record_at(site, patient, record, roots[patient.site], apart, wanted)
        for site, patients in sites.items()
        for patient in patients
        for record in patient.records
    ]
    manifests = write_site_folders(
        wanted.out,
        wanted.dataset,
        records,
        wanted.seed,
        complete=lambda manifest: _completed(manifest, division, sources),
    )
    if wanted.folds:
        _write_folds(wanted, [manifest.site for manifest in manifests])
    return manifests


def _names_are_shared(sources: Sequence[SiteManifest]) -> bool:
    """Whether two sources have a subject or a patient of one name: they are two people."""
    held = [
        {name for record in manifest.subjects for name in (record.subject, record.patient)}
        for manifest in sources
    ]
    return any(count > 1 for count in Counter(name for names in held for name in names).values())


def _record_at(
    site: str, patient: Patient, record: SubjectRecord, root: Path, apart: bool, wanted: Wanted
) -> SubjectRecord:
    folder = wanted.out / site

    def moved(path: str) -> str:
        return path_from(folder, root / path)

    metadata = {ORIGIN_SITE: patient.site, **record.metadata}
    if apart and PATIENT_ID in metadata:
        metadata[PATIENT_ID] = f"{patient.site}_{patient.name}"
    if site in wanted.shifts:
        metadata[SHIFT] = shift_entry(wanted.shifts[site])
    return SubjectRecord(
        subject=f"{patient.site}_{record.subject}" if apart else record.subject,
        site=site,
        split=record.split if wanted.keep_splits else TO_BE_DRAWN,
        files={name: moved(path) for name, path in record.files.items()},
        mask=moved(record.mask) if record.mask is not None else None,
        lesion_mask=moved(record.lesion_mask) if record.lesion_mask is not None else None,
        metadata=metadata,
    )


def _completed(
    manifest: SiteManifest, division: Division, sources: Sequence[SiteManifest]
) -> SiteManifest:
    """A site's manifest with its division, and without the sequences that it does not hold."""
    assignment = division.assignment
    patients = len({record.patient for record in manifest.subjects})
    own = {patient.key for patient in assignment.sites[manifest.site]}
    origins = {site for site, _ in own}
    categories = {
        name: sum(patient.key in own for patient in group)
        for name, group in assignment.categories.items()
    }
    held = assignment.holds.get(manifest.site, ())
    readers = {source.origin for source in sources if source.site in origins}
    return replace(
        manifest,
        subjects=tuple(_keeping(manifest.subjects, held, assignment.held_in)),
        origin=readers.pop() if len(readers) == 1 else None,
        computed=any(source.computed for source in sources if source.site in origins),
        division=DivisionRecord(
            rule=division.rule,
            settings=as_dict(division.settings),
            seed=division.seed,
            numpy=np.__version__,
            least=division.least,
            tries=assignment.tries,
            sources={source.site: source.content_hash() for source in sources},
            patients=patients,
            share=patients / sum(map(len, assignment.sites.values())),
            categories={name: count for name, count in categories.items() if count},
            left_over=dict(assignment.left_over),
            holds=list(held),
        ),
    )


def _keeping(
    records: Sequence[SubjectRecord], held: Sequence[str], splits: str
) -> Iterator[SubjectRecord]:
    for record in records:
        concerned = held and splits in (ALL_SPLITS, record.split)
        files = {name: path for name, path in record.files.items() if name in held}
        yield replace(record, files=files) if concerned else record


def _write_folds(wanted: Wanted, sites: Sequence[str]) -> None:
    """One experiment file per site: the others train, and it only tests."""
    for site in sites:
        others = ", ".join(other for other in sites if other != site)
        text = (
            f"# Leaves {site} out of the training: it only tests, with all of its patients.\n"
            f"federation:\n  sites: [{others}]\n  unseen: [{site}]\n"
            f"experiment:\n  data: {{dataset: {json.dumps(wanted.dataset)}}}\n"
        )
        write_text(wanted.out / FOLDS / f"without-{site}.yaml", text)
    for left in (wanted.out / FOLDS).glob("without-*.yaml"):  # of another division
        if left.stem.removeprefix("without-") not in sites:
            left.unlink()
