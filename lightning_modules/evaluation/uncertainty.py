"""How well an uncertainty tells the error: sparsification, AUSE, rank correlation, calibration.

All functions take one patient's voxels inside the mask, in one dimension and any order, and none of
them depends on that order: voxels of equal uncertainty count alike, each with the mean error of all
of them. So the outcome of ties is the mean over all orders in which they could be removed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

BINS = 10
"""Parts of equal count into which calibration sorts a patient's voxels."""

Values = NDArray[np.floating]


@dataclass(frozen=True)
class CalibrationBin:
    """One row of a calibration table.

    Attributes:
        voxels: how many.
        uncertainty: their mean uncertainty, in the target's unit.
        error: their mean absolute error, in the target's unit.
    """

    voxels: int
    uncertainty: float
    error: float


@dataclass(frozen=True)
class UncertaintyQuality:
    """What one patient's voxels say of an uncertainty.

    Attributes:
        voxels: how many were looked at.
        mae: mean absolute error, in the target's unit.
        uncertainty: mean uncertainty, in the target's unit.
        ause: see ``ause``; 0 is best.
        ause_at_random: what ``ause`` would be without any knowledge of the error.
        correlation: see ``rank_correlation``; 1 is best.
        calibration_error: see ``calibration_error``; 0 is best.
        bins: see ``calibration_bins``.
    """

    voxels: int
    mae: float
    uncertainty: float
    ause: float
    ause_at_random: float
    correlation: float
    calibration_error: float
    bins: tuple[CalibrationBin, ...]


def uncertainty_quality(uncertainty: Values, error: Values) -> UncertaintyQuality:
    """Everything that is measured of one patient.

    Args:
        uncertainty: (voxels,), at least 0, in the target's unit.
        error: (voxels,), prediction less target or its size, in the target's unit.

    Returns:
        Every number is NaN, and there are no bins, where a value is no finite number or where there
        are no voxels. A constant uncertainty has ``ause`` equal to ``ause_at_random`` and no
        correlation (NaN), but a calibration error.

    Raises:
        ValueError: the two have not one and the same dimension and length.
    """
    known, size = _checked(uncertainty, error)
    usable = _usable(known, size)
    return UncertaintyQuality(
        len(size),
        float(size.mean()) if usable else math.nan,
        float(known.mean()) if usable else math.nan,
        ause(known, size),
        ause(np.zeros_like(known), size) if usable else math.nan,
        rank_correlation(known, size),
        calibration_error(known, size),
        calibration_bins(known, size),
    )


def sparsification_curve(order: Values, error: Values) -> NDArray[np.float64]:
    """Mean absolute error of what remains, after removing the voxels of largest order one by one.

    With the uncertainty as ``order`` it is the sparsification curve, with the error itself the
    oracle's: no other order lies below it anywhere.

    Args:
        order: (voxels,), finite.
        error: (voxels,), finite.

    Returns:
        (voxels,), in the error's unit: entry k is the mean of the voxels left without the k that
        come first; entry 0 is the error of all. Where voxels tie, it is the mean over all orders of
        removing them, so that of a constant order is flat.

    Raises:
        ValueError: the two have not one and the same dimension and length.
    """
    known, size = _checked(order, error)
    left = np.cumsum(_by_rank(known, size)) / np.arange(1, len(size) + 1)
    return np.asarray(left[::-1], dtype=np.float64)


def ause(uncertainty: Values, error: Values) -> float:
    """Area under the sparsification error: between the sparsification curve and the oracle's.

    Both curves are divided by the error of all voxels, and the area is over the share that is
    removed, from 0 to 1, in steps of one voxel:

        AUSE = mean over k = 0 ... n - 1 of (curve_k - oracle_k) / mean error.

    Ilg et al., "Uncertainty estimates and multi-hypotheses networks for optical flow", ECCV 2018,
    doi:10.1007/978-3-030-01234-2_40; here of the mean absolute error.

    Args:
        uncertainty: (voxels,), of any unit: only its order counts.
        error: (voxels,), prediction less target or its size.

    Returns:
        At least 0, which is an uncertainty that sorts the voxels as their errors do. A constant one
        gets exactly what removal at random gets on average, and one in the reverse order gets most.
        NaN where a value is no finite number, without voxels, and where nothing is wrong anywhere,
        as there is nothing to sort then.

    Raises:
        ValueError: the two have not one and the same dimension and length.
    """
    known, size = _checked(uncertainty, error)
    if not _usable(known, size) or not size.any():
        return math.nan
    between = sparsification_curve(known, size) - sparsification_curve(size, size)
    return float(between.mean() / size.mean())


def rank_correlation(uncertainty: Values, error: Values) -> float:
    """Spearman's correlation of uncertainty and absolute error over voxels.

    Args:
        uncertainty: (voxels,).
        error: (voxels,), prediction less target or its size.

    Returns:
        From -1 to 1. NaN where either is constant, has fewer than two voxels, or holds a value that
        is no finite number.

    Raises:
        ValueError: the two have not one and the same dimension and length.
    """
    known, size = _checked(uncertainty, error)
    if not _usable(known, size) or np.ptp(known) == 0 or np.ptp(size) == 0:
        return math.nan
    return float(spearmanr(known, size).statistic)


def calibration_bins(
    uncertainty: Values, error: Values, bins: int = BINS
) -> tuple[CalibrationBin, ...]:
    """Voxels in order of their uncertainty, cut into parts whose counts differ by one at most.

    A standard deviation is compared with the mean absolute error as it stands. Even were errors
    normal with that deviation, their mean size would be sqrt(2 / pi), about 0.8, of it.

    Args:
        uncertainty: (voxels,), in the target's unit.
        error: (voxels,), likewise; prediction less target or its size.
        bins: how many; fewer voxels than that get one each.

    Returns:
        The least uncertain first. None where a value is no finite number, or without voxels.

    Raises:
        ValueError: the two have not one and the same dimension and length.
    """
    known, size = _checked(uncertainty, error)
    if not _usable(known, size):
        return ()
    parts = min(bins, len(size))
    sorted_uncertainty = np.array_split(np.sort(known), parts)
    sorted_error = np.array_split(_by_rank(known, size), parts)
    return tuple(
        CalibrationBin(len(one), float(one.mean()), float(other.mean()))
        for one, other in zip(sorted_uncertainty, sorted_error, strict=True)
    )


def calibration_error(uncertainty: Values, error: Values, bins: int = BINS) -> float:
    """Expected calibration error: how far mean uncertainty and mean error of a bin lie apart.

    Args:
        uncertainty: (voxels,), in the target's unit.
        error: (voxels,), likewise; prediction less target or its size.
        bins: see ``calibration_bins``.

    Returns:
        Mean over the bins, weighted by their voxels, in the target's unit; at least 0. NaN where a
        value is no finite number, or without voxels.

    Raises:
        ValueError: the two have not one and the same dimension and length.
    """
    table = calibration_bins(uncertainty, error, bins)
    if not table:
        return math.nan
    apart = [one.voxels * abs(one.uncertainty - one.error) for one in table]
    return math.fsum(apart) / sum(one.voxels for one in table)


def _by_rank(order: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Errors by rising order, those of equal order each as the mean of them all."""
    _, group, counts = np.unique(order, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=size) / counts
    return np.asarray(np.repeat(means, counts), dtype=np.float64)


def _checked(order: Values, error: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The order, and the size of the error, in float64."""
    if order.ndim != 1 or order.shape != error.shape:
        raise ValueError(f"one value of each per voxel expected: {order.shape}, {error.shape}")
    return order.astype(np.float64), np.abs(error.astype(np.float64))


def _usable(order: NDArray[np.float64], size: NDArray[np.float64]) -> bool:
    return len(size) > 0 and bool(np.isfinite(order).all() and np.isfinite(size).all())
