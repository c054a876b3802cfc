"""Gather the slices of an evaluation, and write how far each arm's set of them is from the real."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedi2i.errors import DataError
from fedi2i.files import write_csv
from fedi2i.site_names import ALL_SITES
from lightning_modules.evaluation.distributions.extractor import RealSlices, train_extractor
from lightning_modules.evaluation.distributions.kernel_distance import (
    Estimate,
    jackknifed,
    kernel_distance,
)
from lightning_modules.evaluation.distributions.texture import texture_distance, texture_features
from lightning_modules.evaluation.validation import Patient
from partitions.manifest import SPLITS
from partitions.preparation import PreparedSite
from partitions.preparation.configuration import DOMAINS

DISTRIBUTIONS_FILE = "distributions.csv"
COLUMNS = (
    "arm",
    "site",
    "split",
    "measure",
    "value",
    "standard_error",
    "patients",
    "slices",
    "extractor",
)
KERNEL, TEXTURE = MEASURES = ("kid", "texture")
ONE_TARGET = "sets of slices are compared within one target"
"""Why sites with different targets are refused."""
FEWEST_PATIENTS = 3
FEWEST_SLICES = 20
_TARGET = "target"

logger = logging.getLogger(__name__)

Row = tuple[str, str, str, str, float, float, int, int, str]


@dataclass
class _Slices:
    """What is known of one arm's slices at one site, patient after patient."""

    features: list[NDArray[np.float64]] = field(default_factory=list)
    textures: list[NDArray[np.float64]] = field(default_factory=list)
    people: list[str] = field(default_factory=list)


class Distributions:
    """The distances of every arm's translations from the targets, by groups of patients.

    A group is a site, or all sites that trained (``all``). The kernel distance's extractor and the
    scale of the texture distance come from the target slices of all training patients of the given
    sites, which must lie on this machine; nothing but ``distributions.csv`` is written.

    Args:
        sites: to be evaluated, those that trained and unseen ones.
        unseen: names of the unseen ones.
        split: to be evaluated; of an unseen site that is tested, all are.

    Raises:
        DataError: no group has enough patients and slices, or nobody to train the extractor on.
    """

    def __init__(
        self, sites: Sequence[PreparedSite], unseen: Collection[str] = (), split: str = "test"
    ) -> None:
        self._split = split
        self._people = {
            site.site: _people(
                site, SPLITS if split == "test" and site.site in unseen else (split,)
            )
            for site in sites
        }
        trained = [site for site in sites if site.site not in unseen]
        groups = {site.site: [site.site] for site in sites}
        if len(trained) > 1:
            groups[ALL_SITES] = [site.site for site in trained]
        self._groups = _large_enough(groups, self._people)
        real = RealSlices([site.split("train") for site in trained])
        self._extractor = train_extractor(real)
        images, masks = real.sample()
        self._spread = texture_features(images.numpy(), masks.numpy()).std(axis=0)
        self._found: dict[str, dict[str, _Slices]] = defaultdict(lambda: defaultdict(_Slices))

    def add(self, site: str, patient: Patient, predictions: Mapping[str, Tensor]) -> None:
        """Take note of a patient's target and of every arm's translation of it.

        Args:
            site: of the patient.
            patient: with the target's mask.
            predictions: by arm (slices, rows, columns), intensities; clipped to [0, 1].
        """
        person, _ = self._people[site][patient.subject]
        for name, volume in {_TARGET: patient.target, **predictions}.items():
            of_arm = self._found[name][site]
            of_arm.features.append(self._extractor.features(volume, patient.mask))
            of_arm.textures.append(texture_features(volume.numpy(), patient.mask.numpy()))
            of_arm.people += [f"{site}/{person}"] * len(volume)

    def write(self, out: Path) -> Path:
        """Write ``distributions.csv``: a row per arm, group and measure.

        An arm that lacks predictions for some patients of a group has no row there.

        Returns:
            The path of the file.
        """
        write_csv(out / DISTRIBUTIONS_FILE, COLUMNS, self._rows())
        return out / DISTRIBUTIONS_FILE

    def _rows(self) -> Iterator[Row]:
        for group, members in self._groups.items():
            real = self._joined(_TARGET, members)
            for arm in self._found:
                other = self._joined(arm, members)
                if arm == _TARGET or other.people != real.people:
                    continue
                counts = (len(set(real.people)), len(real.people))
                for measure, estimate in self._measured(real, other).items():
                    made_with = self._extractor.digest if measure == KERNEL else ""
                    yield (
                        *(arm, group, self._split, measure),
                        *(estimate.value, estimate.standard_error),
                        *counts,
                        made_with,
                    )

    def _joined(self, arm: str, sites: Sequence[str]) -> _Slices:
        parts = [self._found[arm][site] for site in sites]
        return _Slices(
            [array for part in parts for array in part.features],
            [array for part in parts for array in part.textures],
            [person for part in parts for person in part.people],
        )

    def _measured(self, real: _Slices, other: _Slices) -> dict[str, Estimate]:
        features, translated = (np.concatenate(one.features) for one in (real, other))
        textures, of_arm = (np.concatenate(one.textures) for one in (real, other))
        people = real.people
        return {
            KERNEL: kernel_distance(features, translated, people, people),
            TEXTURE: jackknifed(
                people, lambda kept: texture_distance(textures[kept], of_arm[kept], self._spread)
            ),
        }


def _people(site: PreparedSite, splits: Sequence[str]) -> dict[str, tuple[str, int]]:
    """By subject the person, and how many slices are measured."""
    return {
        entry.subject: (entry.patient, entry.stop - entry.start)
        for name in splits
        for entry in site.split(name).subjects
        if entry.domains == DOMAINS
    }


def _large_enough(
    groups: Mapping[str, Sequence[str]], people: Mapping[str, Mapping[str, tuple[str, int]]]
) -> dict[str, Sequence[str]]:
    """The groups that can be measured; the others are named.

    Raises:
        DataError: there are none.
    """
    kept, few = {}, []
    for group, members in groups.items():
        held = [(site, *found) for site in members for found in people[site].values()]
        persons = len({(site, person) for site, person, _ in held})
        slices = sum(count for _, _, count in held)
        if persons >= FEWEST_PATIENTS and slices >= FEWEST_SLICES:
            kept[group] = members
        else:
            few.append(f"{group} ({persons} patients, {slices} slices)")
    needed = f"{FEWEST_PATIENTS} patients with {FEWEST_SLICES} slices together"
    if not kept:
        raise DataError(
            f"the distribution distance needs {needed}; too few are {', '.join(few)}: give more "
            "patients, or leave --distributions out"
        )
    if few:
        logger.info("no distribution distance of %s: it needs %s", ", ".join(few), needed)
    return kept
