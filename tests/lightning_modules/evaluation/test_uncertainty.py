"""Uncertainty against error: sparsification, AUSE, rank correlation and calibration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lightning_modules.evaluation.uncertainty import (
    ause,
    calibration_bins,
    calibration_error,
    rank_correlation,
    sparsification_curve,
    uncertainty_quality,
)

ERRORS = np.array([0.1, 0.5, 0.2, 0.4, 0.3, 0.6])
UNCERTAINTIES = np.array([0.2, 0.4, 0.1, 0.6, 0.3, 0.5])


def _removed_one_by_one(order: list[int], error: NDArray[np.float64]) -> list[float]:
    """Mean size of the errors that are left, when voxels go in this order; by plain loops."""
    return [float(np.mean([abs(error[one]) for one in order[gone:]])) for gone in range(len(error))]


def _drawn(seed: int, voxels: int = 200) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Uncertainties, and normal errors that have them as standard deviation."""
    random = np.random.default_rng(seed)
    uncertainty = random.uniform(0.1, 3.0, voxels)
    return uncertainty, random.normal(0.0, uncertainty)


def test_the_area_of_six_voxels_is_the_one_worked_out_by_hand() -> None:
    # The errors .4, .6, .5, .3 and .1 go in this order; those of the oracle from the largest down.
    np.testing.assert_allclose(
        sparsification_curve(UNCERTAINTIES, ERRORS), [0.35, 0.34, 0.275, 0.2, 0.15, 0.2]
    )
    np.testing.assert_allclose(
        sparsification_curve(ERRORS, ERRORS), [0.35, 0.3, 0.25, 0.2, 0.15, 0.1]
    )
    assert ause(UNCERTAINTIES, ERRORS) == pytest.approx(0.0275 / 0.35)
    assert ause(np.ones(6), ERRORS) == pytest.approx(0.125 / 0.35)
    assert ause(-ERRORS, ERRORS) == pytest.approx(0.25 / 0.35)


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_is_that_of_removing_voxels_one_by_one(seed: int) -> None:
    uncertainty, error = _drawn(seed)
    order = sorted(range(len(error)), key=lambda one: -uncertainty[one])
    oracle = sorted(range(len(error)), key=lambda one: -abs(error[one]))
    expected, best = _removed_one_by_one(order, error), _removed_one_by_one(oracle, error)
    np.testing.assert_allclose(sparsification_curve(uncertainty, error), expected)
    between = np.mean(np.subtract(expected, best)) / np.abs(error).mean()
    assert ause(uncertainty, error) == pytest.approx(between)


def test_ties_count_as_the_mean_over_all_orders_of_removing_them() -> None:
    uncertainty = np.array([2.0, 1.0, 2.0, 1.0, 1.0, 3.0])
    orders = [
        list(order)
        for order in itertools.permutations(range(6))
        if all(uncertainty[a] >= uncertainty[b] for a, b in itertools.pairwise(order))
    ]
    assert len(orders) == 12
    expected = np.mean([_removed_one_by_one(order, ERRORS) for order in orders], axis=0)
    np.testing.assert_allclose(sparsification_curve(uncertainty, ERRORS), expected)


def test_nothing_depends_on_the_order_in_which_voxels_are_given() -> None:
    random = np.random.default_rng(3)
    uncertainty, error = random.integers(0, 4, 99) / 8, random.integers(-9, 9, 99) / 4
    mixed = random.permutation(99)
    first, second = (
        uncertainty_quality(uncertainty, error),
        uncertainty_quality(uncertainty[mixed], error[mixed]),
    )
    assert first.ause == pytest.approx(second.ause, rel=1e-12)
    assert first.correlation == pytest.approx(second.correlation, rel=1e-12)
    for one, other in zip(first.bins, second.bins, strict=True):
        assert (one.voxels, one.uncertainty) == (other.voxels, other.uncertainty)
        assert one.error == pytest.approx(other.error, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_perfect_uncertainty_has_no_area_and_an_inverted_one_the_most(seed: int) -> None:
    _, error = _drawn(seed)
    size, random = np.abs(error), np.random.default_rng(seed)
    assert ause(size, error) == 0.0
    assert ause(size**3 + 1, error) == 0.0  # only the order counts
    worst = ause(size.max() - size, error)
    others = [ause(random.permutation(size), error) for _ in range(50)]
    assert 0 < min(others) <= max(others) < worst


def test_a_constant_uncertainty_is_as_good_as_removal_at_random() -> None:
    _, error = _drawn(0, voxels=40)
    random = np.random.default_rng(1)
    at_random = [ause(random.permutation(40).astype(float), error) for _ in range(4000)]
    spread = float(np.std(at_random)) / math.sqrt(len(at_random))
    constant = uncertainty_quality(np.full(40, 0.7), error)
    assert constant.ause == pytest.approx(np.mean(at_random), abs=4 * spread)
    assert constant.ause == constant.ause_at_random
    assert math.isnan(constant.correlation)
    assert constant.calibration_error == pytest.approx(abs(0.7 - np.abs(error).mean()))


def test_the_rank_correlation_is_the_correlation_of_mean_ranks() -> None:
    random = np.random.default_rng(7)
    uncertainty, error = random.integers(0, 9, 60), random.integers(-9, 9, 60)

    def ranks(values: NDArray[np.int64]) -> torch.Tensor:
        below = (values[None] < values[:, None]).sum(axis=1)
        tied = (values[None] == values[:, None]).sum(axis=1)
        return torch.from_numpy(below + (tied - 1) / 2)

    expected = torch.corrcoef(torch.stack([ranks(uncertainty), ranks(np.abs(error))]))[0, 1]
    found = rank_correlation(uncertainty.astype(float), error.astype(float))
    assert found == pytest.approx(float(expected))


def test_bins_have_equal_counts_and_the_means_of_their_voxels() -> None:
    uncertainty, error = _drawn(2, voxels=103)
    table = calibration_bins(uncertainty, error)
    assert [one.voxels for one in table] == [11] * 3 + [10] * 7
    pairs, start = sorted(zip(uncertainty, np.abs(error), strict=True)), 0
    total = 0.0
    for one in table:
        mine = pairs[start : start + one.voxels]
        start += one.voxels
        predicted, wrong = (sum(values) / len(mine) for values in zip(*mine, strict=True))
        assert (one.uncertainty, one.error) == pytest.approx((predicted, wrong))
        total += len(mine) / 103 * abs(predicted - wrong)
    assert calibration_error(uncertainty, error) == pytest.approx(total)
    assert len(calibration_bins(uncertainty[:4], error[:4])) == 4


def test_a_calibrated_uncertainty_has_no_calibration_error_and_one_that_is_off_has_its_offset() -> (
    None
):
    _, error = _drawn(4)
    assert calibration_error(np.abs(error), error) == pytest.approx(0.0, abs=1e-12)
    assert calibration_error(np.abs(error) + 2.5, error) == pytest.approx(2.5)
    # In the target's unit: a unit that is ten times smaller makes it ten times larger.
    uncertainty, error = _drawn(5)
    once = calibration_error(uncertainty, error)
    assert calibration_error(10 * uncertainty, 10 * error) == pytest.approx(10 * once)


def test_of_normal_errors_the_mean_size_is_four_fifths_of_the_uncertainty() -> None:
    uncertainty, error = _drawn(6, voxels=100_000)
    for one in calibration_bins(uncertainty, error):
        assert one.error / one.uncertainty == pytest.approx(math.sqrt(2 / math.pi), rel=0.03)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["uncertainty", "error"])
def test_what_is_no_number_makes_everything_nan(wrong: float, where: str) -> None:
    values = {"uncertainty": UNCERTAINTIES.copy(), "error": ERRORS.copy()}
    values[where][2] = wrong
    found = uncertainty_quality(**values)
    assert found.voxels == 6
    assert found.bins == ()
    numbers = (
        found.mae,
        found.uncertainty,
        found.ause,
        found.ause_at_random,
        found.correlation,
        found.calibration_error,
    )
    assert all(math.isnan(one) for one in numbers)


def test_without_voxels_or_without_any_error_there_is_nothing_to_sort() -> None:
    assert math.isnan(uncertainty_quality(np.array([]), np.array([])).ause)
    right = uncertainty_quality(UNCERTAINTIES, np.zeros(6))
    assert math.isnan(right.ause)
    assert math.isnan(right.correlation)
    assert right.calibration_error == pytest.approx(UNCERTAINTIES.mean())


def test_volumes_and_unlike_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one value of each per voxel"):
        ause(UNCERTAINTIES[:5], ERRORS)
    with pytest.raises(ValueError, match="one value of each per voxel"):
        ause(UNCERTAINTIES.reshape(2, 3), ERRORS.reshape(2, 3))
