"""Histograms, distances and the two-sample test, against other libraries and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import skew, wasserstein_distance

from partitions.heterogeneity.discrepancy import discrepancy
from partitions.heterogeneity.intensities import features_of, histogram_of, wasserstein

RNG = np.random.default_rng(7)


def levels(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 65535).astype(np.uint16)


def test_a_histogram_has_the_shares_of_the_voxels_inside_the_mask() -> None:
    image = levels(np.array([0.0, 0.1, 0.3, 0.6, 1.0, 0.9]))
    mask = np.array([1, 1, 1, 1, 1, 0], np.uint8)
    assert histogram_of(image, mask, bins=4).tolist() == [0.4, 0.2, 0.2, 0.2]


@pytest.mark.parametrize(("bins", "off"), [(64, 0.002), (8, 0.01)])
def test_coarse_histograms_give_the_distance_of_the_samples(bins: int, off: float) -> None:
    one, other = RNG.beta(2, 5, 20_000), np.clip(RNG.beta(2, 5, 15_000) + 0.1, 0, 1)
    histograms = [
        histogram_of(levels(values), np.ones(len(values), np.uint8), bins)
        for values in (one, other)
    ]
    expected = wasserstein_distance(one, other)
    assert wasserstein(*histograms) == pytest.approx(expected, abs=off)
    assert wasserstein(*histograms[::-1]) == wasserstein(*histograms)
    assert wasserstein(histograms[0], histograms[0]) == 0


def test_the_ends_of_the_range_are_one_range_apart() -> None:
    black, white = (histogram_of(levels(np.full(9, v)), np.ones(9, np.uint8)) for v in (0.0, 1.0))
    assert wasserstein(black, white) == pytest.approx(63 / 64)


def test_a_patient_s_features_are_those_of_the_voxels_inside_the_mask() -> None:
    image = RNG.gamma(2, 0.1, (3, 20, 20)).clip(0, 1)
    mask = (RNG.random(image.shape) < 0.7).astype(np.uint8)
    inside = image[mask > 0]
    found = features_of(levels(image), mask)
    expected = [inside.mean(), inside.std(), skew(inside), *np.percentile(inside, (5, 95))]
    assert found[:5] == pytest.approx(expected, abs=2e-4)
    steps = np.zeros((1, 2, 3))
    steps[0, :, 1:] = 0.5  # one step of 0.5 in each row, none between rows
    edges = features_of(levels(steps), np.ones(steps.shape, np.uint8))[5]
    assert edges == pytest.approx((2 * 0.25) / (3 + 4), abs=1e-4)


def test_the_discrepancy_is_the_unbiased_estimate_of_its_authors() -> None:
    one, other = RNG.normal(size=(9, 4)), RNG.normal(0.5, 2, size=(7, 4))
    both = np.concatenate([one, other])
    scaled = both / both.std(axis=0)
    middle = np.median(pdist(scaled, "sqeuclidean"))
    kernel = np.exp(-cdist(scaled, scaled, "sqeuclidean") / middle)
    within = [kernel[i, j] for i in range(9) for j in range(9) if i != j]
    beside = [kernel[i, j] for i in range(9, 16) for j in range(9, 16) if i != j]
    expected = np.mean(within) + np.mean(beside) - 2 * kernel[:9, 9:].mean()
    found, _ = discrepancy(one, other, np.random.default_rng(0), permutations=1)
    assert found == pytest.approx(expected, abs=1e-12)


def test_chance_explains_equal_sites_and_does_not_explain_a_shift() -> None:
    """Fifteen against twelve patients, five features: the rates of rejection at 0.05."""
    rejected = {0.0: 0, 0.8: 0}
    for shift in rejected:
        for trial in range(100):
            rng = np.random.default_rng([trial, int(10 * shift)])
            one, other = rng.normal(size=(15, 5)), rng.normal(shift, 1, size=(12, 5))
            rejected[shift] += discrepancy(one, other, rng, permutations=199)[1] <= 0.05
    assert rejected[0.0] <= 12
    assert rejected[0.8] >= 80


def test_patients_who_are_all_alike_are_no_discrepancy() -> None:
    assert discrepancy(np.ones((3, 2)), np.ones((4, 2)), RNG) == (0.0, 1.0)
    with pytest.raises(ValueError, match="groups of 1 and 4 patients"):
        discrepancy(np.ones((1, 2)), np.ones((4, 2)), RNG)
