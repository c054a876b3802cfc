"""How far a scan lies from the training's: against the distance of the samples themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from fedi2i.metric_files import SOURCE, SOURCE_LEVELS, SOURCE_SPREAD, MetricRow
from lightning_modules.translation.model_card import BINS, SourceIntensities
from lightning_modules.translation.unlike_training import (
    LEAST_FAR,
    distance,
    far_from_training,
    histogram,
    intensities_of_sites,
    source_intensities,
    source_percentiles,
)
from partitions.preparation import PreparedSite

EVERYWHERE = np.ones((4, 32, 32), dtype=bool)


def _scan(seed: int, low: float = 0.2, high: float = 0.6) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, EVERYWHERE.shape).astype(np.float32)


def test_histograms_are_as_far_apart_as_the_samples() -> None:
    one, other = _scan(1), _scan(2, 0.3, 0.9)
    found = distance(histogram(one, EVERYWHERE), histogram(other, EVERYWHERE))
    assert found == pytest.approx(wasserstein_distance(one.ravel(), other.ravel()), abs=1 / BINS)


def test_pixels_outside_the_mask_do_not_count() -> None:
    mask = EVERYWHERE.copy()
    mask[:, :16] = False
    scan = np.where(mask, _scan(1), 0.99).astype(np.float32)
    assert histogram(scan, mask).sum() == pytest.approx(1.0)
    assert histogram(scan, mask)[-1] == 0


def test_a_scan_like_the_training_s_is_passed_and_another_one_named_with_figures() -> None:
    training = SourceIntensities(tuple(histogram(_scan(1), EVERYWHERE)), 0.01)
    assert far_from_training(_scan(2), EVERYWHERE, training) == ""
    said = far_from_training(_scan(2, 0.5, 0.9), EVERYWHERE, training)
    assert "lie 0.30" in said and "of the scale away" in said and "training patient 0.010" in said


def test_the_training_s_own_patients_are_never_far(sites: dict[str, PreparedSite]) -> None:
    split = sites["north"].split("train")
    training = source_intensities([split])
    assert training is not None and sum(training.shares) == pytest.approx(1.0, abs=1e-4)
    for subject in split.subjects:
        where = slice(subject.start, subject.stop)
        source = (split.source[where] / 65535).astype(np.float32)
        assert far_from_training(source, split.mask[where] > 0, training) == ""


def _rows(site: str, percentiles: np.ndarray, spread: float) -> list[MetricRow]:
    said = [*zip(SOURCE, percentiles.tolist(), strict=True), (SOURCE_SPREAD, spread)]
    return [(site, 4, name, value) for name, value in said]


def test_the_percentiles_of_sites_tell_the_distribution_of_their_pixels() -> None:
    samples = np.random.default_rng(3).beta(2, 5, 100_000)
    percentiles = np.quantile(samples, SOURCE_LEVELS)
    rows = [*_rows("a", percentiles - 0.01, 0.02), *_rows("b", percentiles + 0.01, 0.03)]
    found = intensities_of_sites([*rows, ("all", 4, SOURCE[0], 1.0)])
    assert found is not None and found.by_sites and sum(found.shares) == pytest.approx(1, abs=1e-4)
    # Both sites lie 0.01 from the mean, and the second one's patients 0.03 from that.
    assert found.spread == pytest.approx(0.04)
    exact = np.histogram(samples, bins=BINS, range=(0, 1))[0] / len(samples)
    assert distance(found.shares, exact) < LEAST_FAR / 10
    # Against the samples themselves, moved by a known amount.
    moved = np.histogram(samples + 0.2, bins=BINS, range=(0, 1))[0] / len(samples)
    assert distance(found.shares, moved) == pytest.approx(0.2, abs=LEAST_FAR / 10)


def test_percentiles_that_are_equal_or_out_of_order_are_a_distribution_all_the_same() -> None:
    for percentiles in (np.zeros(10), np.ones(10), np.linspace(0.9, 0.1, 10)):
        rows = [*_rows("a", percentiles, 0.0), *_rows("b", percentiles, 0.0)]
        found = intensities_of_sites(rows)
        assert found is not None and min(found.shares) >= 0
        assert sum(found.shares) == pytest.approx(1, abs=1e-4)


def test_one_site_alone_does_not_come_into_a_model_file() -> None:
    rows = _rows("a", np.linspace(0.1, 0.9, 10), 0.02)
    half = [("b", 4, SOURCE[0], 0.1)]
    assert intensities_of_sites([]) is None
    assert intensities_of_sites([*rows, *half]) is None


def test_a_site_gives_means_over_patients_and_of_too_few_nothing(
    sites: dict[str, PreparedSite],
) -> None:
    split = sites["north"].split("train")
    found = source_percentiles(split, 2)
    apart = []
    for subject in split.subjects:
        where = slice(subject.start, subject.stop)
        apart.append(np.quantile(split.source[where][split.mask[where] > 0] / 65535, SOURCE_LEVELS))
    assert [found[name] for name in SOURCE] == pytest.approx(np.mean(apart, axis=0).tolist())
    # Of two patients each lies half their distance from the mean.
    expected = np.abs(apart[0] - apart[1]).mean() / 2
    assert found[SOURCE_SPREAD] == pytest.approx(expected)
    assert source_percentiles(split, 3) == {}


def test_a_scan_far_from_the_sites_is_named_as_such() -> None:
    rows = [row for site in "ab" for row in _rows(site, np.linspace(0.2, 0.3, 10), 0.01)]
    training = intensities_of_sites(rows)
    assert training is not None
    said = far_from_training(_scan(2, 0.5, 0.9), EVERYWHERE, training)
    assert "lie 0.45" in said and "average patient of the farthest site 0.010" in said
    assert far_from_training(_scan(2, 0.2, 0.3), EVERYWHERE, training) == ""
