"""What is kept of a patient's intensities: a histogram and six numbers, of what is in the mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from partitions.preparation.intensities import LEVELS

BINS = 64
"""Of a histogram over [0, 1]. Distances between histograms hardly depend on it."""
FEATURES = (
    "mean",
    "standard deviation",
    "skewness",
    "5th percentile",
    "95th percentile",
    "gradient energy",
)

Levels = NDArray[np.uint16]
Mask = NDArray[np.uint8]
Histogram = NDArray[np.float64]


def histogram_of(levels: Levels, mask: Mask, bins: int = BINS) -> Histogram:
    """The share of a patient's voxels in each of some equal bins over [0, 1].

    Args:
        levels: 16-bit levels as prepared slices have them.
        mask: 1 where they count, the same shape, not empty.
        bins: how many, from 1 to 65536.

    Returns:
        Shares with the sum 1, shape (bins,).
    """
    inside = levels[mask > 0].astype(np.int64)
    counts = np.bincount(inside * bins // (LEVELS + 1), minlength=bins)
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def mean_histogram(histograms: Sequence[Histogram]) -> Histogram:
    """The histogram of a site, in which every patient has the same weight."""
    return np.asarray(np.mean(histograms, axis=0), dtype=np.float64)


def wasserstein(one: Histogram, other: Histogram) -> float:
    """The 1-Wasserstein distance of two histograms over [0, 1], in parts of that range.

    In one dimension it is the area between the two distribution functions (Vallender 1974,
    doi:10.1137/1118101). Bins of the width 1/64 are off by less than that width.
    """
    return float(np.abs(np.cumsum(one - other)).sum() / len(one))


def features_of(levels: Levels, mask: Mask) -> NDArray[np.float64]:
    """Six numbers of a patient's slices, see ``FEATURES``.

    Args:
        levels: 16-bit levels, shape (slices, rows, columns).
        mask: 1 where they count, the same shape, not empty.

    Returns:
        Shape (6,); the gradient energy is the mean squared difference between neighbours within a
        slice.
    """
    image = levels.astype(np.float64) / LEVELS
    inside = mask > 0
    values = image[inside]
    mean, deviation = float(values.mean()), float(values.std())
    skewness = float(((values - mean) ** 3).mean()) / max(deviation, 1e-12) ** 3
    low, high = np.percentile(values, (5, 95))
    return np.array([mean, deviation, skewness, low, high, _edges(image, inside)])


def _edges(image: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    """Mean squared difference between neighbours of which both are inside."""
    squares = []
    for axis in (1, 2):
        first, second = slice(None, -1), slice(1, None)
        one = (slice(None),) * axis + (first,)
        other = (slice(None),) * axis + (second,)
        both = inside[one] & inside[other]
        squares.append(((image[one] - image[other]) ** 2)[both])
    found = np.concatenate(squares)
    return float(found.mean()) if found.size else 0.0
