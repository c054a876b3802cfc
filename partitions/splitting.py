"""Divide patients into train, val and test, never slices; seeded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from fedi2i.errors import ConfigError
from partitions.manifest import SPLITS

Fractions = tuple[float, float, float]
"""Parts of train, val and test; positive, sum 1."""

FRACTIONS: Fractions = (0.7, 0.1, 0.2)
"""70/10/20 % within each site, as common in the field."""


def split_patients(
    patients: Iterable[str], seed: int, fractions: Fractions = FRACTIONS
) -> dict[str, str]:
    """Assign every patient of one site to a split.

    Args:
        patients: patient identifiers; one that appears twice counts once and stays in one split.
        seed: the same patients and seed give the same splits, whatever order they come in.
        fractions: wanted parts of train, val and test; positive, sum 1.

    Returns:
        Patient to ``train``, ``val`` or ``test``. From three patients on no split is empty; of
        two, one trains and one tests; a single one trains.

    Raises:
        ConfigError: the fractions are not three positive numbers that sum to 1.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(f"fractions {list(fractions)} must be three positive numbers with sum 1")
    if seed < 0:
        raise ConfigError(f"seed {seed} must not be negative")
    names = sorted(set(patients))
    order = np.random.default_rng(seed).permutation(len(names))
    labels = [
        split
        for split, count in zip(SPLITS, split_sizes(len(names), fractions), strict=True)
        for _ in range(count)
    ]
    return {names[index]: label for index, label in zip(order, labels, strict=True)}


def split_by_completeness(
    sequences: Mapping[str, frozenset[str]],
    seed: int,
    fractions: Fractions = FRACTIONS,
) -> dict[str, str]:
    """Split the patients that have every sequence, and the others, each group by the fractions.

    A patient without a sequence is left out when that sequence is needed. Split together, such
    patients could be all of a small site's test set, which would then be empty.

    Args:
        sequences: patient to the sequences acquired.
        seed: see `split_patients`.
        fractions: see `split_patients`.
    """
    every = frozenset[str]().union(*sequences.values())
    complete = [patient for patient, names in sequences.items() if names == every]
    others = [patient for patient, names in sequences.items() if names != every]
    return {
        **split_patients(complete, seed, fractions),
        **split_patients(others, seed, fractions),
    }


def split_sizes(count: int, fractions: Fractions) -> tuple[int, int, int]:
    """How many of ``count`` patients go to train, val and test (see `split_patients`)."""
    if count < 3:
        return ((0, 0, 0), (1, 0, 0), (1, 0, 1))[count]
    wanted = count * np.asarray(fractions)
    sizes = np.maximum(np.floor(wanted + 1e-9).astype(int), 1)
    while sizes.sum() < count:
        sizes[np.argmax(wanted - sizes)] += 1
    while sizes.sum() > count:
        surplus = np.where(sizes > 1, sizes - wanted, -np.inf)
        sizes[np.argmax(surplus)] -= 1
    train, val, test = (int(size) for size in sizes)
    return train, val, test
