"""Which subjects a cohort has, and which split each belongs to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from fedi2i.digest import digest
from fedi2i.typed_config import choose
from partitions.computed import tissues
from partitions.computed.hospitals import HOSPITALS, Hospital
from partitions.manifest import SPLITS

COHORT_VERSION = 1
"""Raised whenever the same parameters would give other voxels."""

SIZES: dict[str, dict[str, tuple[int, int, int]]] = {
    "demo": {
        "north": (16, 3, 5),
        "east": (10, 2, 4),
        "south": (6, 2, 2),
        "west": (3, 1, 2),
        "island": (0, 0, 8),
    },
    "smoke": {
        "north": (3, 1, 1),
        "east": (2, 1, 1),
        "south": (2, 1, 1),
        "west": (1, 1, 1),
        "island": (0, 0, 3),
    },
}
"""Subjects in train, val and test at each hospital."""


@dataclass(frozen=True)
class PlannedSubject:
    """A subject before it is computed: its name, hospital, split and seed."""

    name: str
    hospital: Hospital
    split: str
    entropy: int
    spawn_key: tuple[int, int]

    def seed(self) -> np.random.SeedSequence:
        """The subject's own seed, the same however many others are computed."""
        return np.random.SeedSequence(self.entropy, spawn_key=self.spawn_key)


def plan_cohort(seed: int, size: str) -> tuple[PlannedSubject, ...]:
    """All subjects of a cohort, in order.

    Args:
        seed: seed of the whole cohort, at least 0.
        size: ``demo`` or ``smoke``; a name and a seed mean the same subject in both.

    Raises:
        ConfigError: an unknown size.
    """
    counts = SIZES[choose(size, SIZES, "size")]
    planned: list[PlannedSubject] = []
    for number, hospital in enumerate(HOSPITALS):
        splits = np.repeat(SPLITS, counts[hospital.site])
        # Spawn key 0 shuffles the splits, so subjects count from 1.
        order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, 0)))
        planned.extend(
            PlannedSubject(
                name=f"{hospital.site}-{index:03d}",
                hospital=hospital,
                split=str(split),
                entropy=seed,
                spawn_key=(number, index),
            )
            for index, split in enumerate(order.permutation(splits), start=1)
        )
    return tuple(planned)


def cohort_key(seed: int, size: str) -> str:
    """SHA-256 over everything that decides the cohort's voxels and splits."""
    content = {
        "version": COHORT_VERSION,
        "seed": seed,
        "size": size,
        "counts": SIZES[choose(size, SIZES, "size")],
        "hospitals": [dataclasses.asdict(hospital) for hospital in HOSPITALS],
        "tissues": {
            f"{field:g}": {name: dataclasses.asdict(tissue) for name, tissue in table.items()}
            for field, table in tissues.BY_FIELD.items()
        },
    }
    return digest(content)
