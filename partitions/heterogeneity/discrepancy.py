"""Maximum mean discrepancy of two groups of patients, and whether chance explains it.

Gretton, Borgwardt, Rasch, Schölkopf and Smola, "A kernel two-sample test", Journal of Machine
Learning Research 13 (2012): the unbiased estimate of their equation 3, and their section 3 on
permutations. It needs the vectors of all patients in one place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 999
FEWEST = 2
"""Patients that each of the two groups must have."""

Vectors = NDArray[np.float64]


def discrepancy(
    one: Vectors, other: Vectors, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> tuple[float, float]:
    """MMD² between two groups, and the probability of as large a one by chance.

    The kernel is exp(-|x - y|² / m) with m the median squared distance of all patients together.
    Every feature is divided by its standard deviation over all of them.

    Args:
        one: shape (patients, features).
        other: shape (patients, features).
        rng: draws the permutations of patients.
        permutations: how many.

    Returns:
        The unbiased estimate, which may be negative, and (1 + hits) / (1 + permutations); 0 and 1
        where no two patients differ.

    Raises:
        ValueError: a group has fewer than `FEWEST` patients.
    """
    if min(len(one), len(other)) < FEWEST:
        raise ValueError(f"groups of {len(one)} and {len(other)} patients; {FEWEST} are needed")
    kernel = _kernel(np.concatenate([one, other]))
    if kernel is None:
        return 0.0, 1.0
    labels = np.zeros(len(kernel))
    labels[: len(one)] = 1
    found = float(_estimates(kernel, labels[np.newaxis])[0])
    shuffled = rng.permuted(np.tile(labels, (permutations, 1)), axis=1)
    # Equal groups must count as hits whatever the last bit says.
    hits = int((_estimates(kernel, shuffled) >= found - 1e-12).sum())
    return found, (1 + hits) / (1 + permutations)


def _kernel(vectors: Vectors) -> Vectors | None:
    """The kernel between all patients, with zeros on its diagonal; None if all are equal."""
    deviation = vectors.std(axis=0)
    scaled = (vectors - vectors.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    squares = ((scaled[:, np.newaxis] - scaled[np.newaxis]) ** 2).sum(axis=2)
    middle = float(np.median(squares[np.triu_indices(len(squares), 1)]))
    if middle <= 0:
        return None
    kernel = np.exp(-squares / middle)
    np.fill_diagonal(kernel, 0)
    return np.asarray(kernel)


def _estimates(kernel: Vectors, labels: Vectors) -> Vectors:
    """The unbiased MMD² for every row of labels, which are 1 in the first group and else 0."""
    first, second = labels, 1 - labels
    in_first, in_second = labels.sum(axis=1), (1 - labels).sum(axis=1)
    within = ((first @ kernel) * first).sum(axis=1) / (in_first * (in_first - 1))
    beside = ((second @ kernel) * second).sum(axis=1) / (in_second * (in_second - 1))
    between = ((first @ kernel) * second).sum(axis=1) / (in_first * in_second)
    return np.asarray(within + beside - 2 * between)
