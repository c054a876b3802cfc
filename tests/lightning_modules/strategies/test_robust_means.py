"""Median and trimmed mean against numpy and scipy, and against a hostile site."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import trim_mean
from server_rules import Server

from lightning_modules.combining import chunks
from lightning_modules.combining.distances import squares_from_mean
from lightning_modules.combining.updates import SiteUpdate
from lightning_modules.strategies.trimmed_mean import trimmed_at_each_end

KEY = "generator.w"


def updates(count: int, samples: Sequence[float] | None = None) -> list[SiteUpdate]:
    rng = np.random.default_rng(count)
    return [
        SiteUpdate(
            f"site-{n}",
            {KEY: rng.normal(size=(7, 5)).astype(np.float32), "generator.n": np.array(10 + n)},
            samples[n] if samples else 1.0,
        )
        for n in range(count)
    ]


def stacked(found: list[SiteUpdate]) -> np.ndarray:
    return np.stack([update.weights[KEY] for update in found]).astype(np.float64)


def combined(aggregator: Server, found: list[SiteUpdate]) -> np.ndarray:
    return aggregator.combine("generator", found, {})[KEY]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_the_median_is_numpy_s(count: int) -> None:
    found = updates(count)
    expected = np.median(stacked(found), axis=0).astype(np.float32)
    np.testing.assert_allclose(combined(Server("fedmedian"), found), expected, rtol=1e-6)


@pytest.mark.parametrize(("count", "fraction"), [(4, 0.25), (5, 0.2), (8, 0.3), (10, 0.4)])
def test_the_trimmed_mean_is_scipy_s(count: int, fraction: float) -> None:
    found = updates(count)
    expected = trim_mean(stacked(found), fraction, axis=0)
    result = combined(Server("trimmed_mean", trim_fraction=fraction), found)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-7)


def test_whole_sample_counts_weigh_like_as_many_equal_sites() -> None:
    found = updates(3, samples=[1, 2, 4])
    repeated = np.repeat(stacked(found), [1, 2, 4], axis=0)
    result = combined(Server("fedmedian", sample_weights=True), found)
    np.testing.assert_allclose(result, np.median(repeated, axis=0), rtol=1e-6)


def test_a_trimmed_mean_with_sample_weights_weighs_what_it_has_not_trimmed() -> None:
    """By hand: of 1, 2, 4, 100 with 1, 2, 3, 9 samples the ends go; (2 * 2 + 3 * 4) / 5 is left."""
    values, samples = (100.0, 1.0, 4.0, 2.0), (9, 1, 3, 2)
    found = [
        SiteUpdate(str(n), {KEY: np.array([value])}, count)
        for n, (value, count) in enumerate(zip(values, samples, strict=True))
    ]
    server = Server("trimmed_mean", trim_fraction=0.25, sample_weights=True)
    assert float(combined(server, found)[0]) == pytest.approx(16 / 5)
    plain = Server("trimmed_mean", trim_fraction=0.25, sample_weights=False)
    assert float(combined(plain, found)[0]) == 3.0
    nothing_trimmed = Server("trimmed_mean", trim_fraction=0.0, sample_weights=False)
    assert float(combined(nothing_trimmed, found)[0]) == pytest.approx(107 / 4)


def test_without_sample_weights_a_stated_number_of_samples_has_no_say() -> None:
    plain, claimed = updates(5), updates(5, samples=[1, 1, 1, 1, 1e9])
    for aggregator in (Server("fedmedian"), Server("trimmed_mean", trim_fraction=0.2)):
        np.testing.assert_array_equal(combined(aggregator, plain), combined(aggregator, claimed))


@pytest.mark.parametrize("size", [1, 7, 34, 35, 36])
def test_the_size_of_chunks_changes_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = updates(5)
    aggregators: list[Server] = [Server("fedmedian"), Server("fedavg")]
    expected = [combined(aggregator, found) for aggregator in aggregators]
    anchor = {key: np.zeros_like(value) for key, value in found[0].weights.items()}
    squares = squares_from_mean({KEY: expected[0]}, found, anchor)
    monkeypatch.setattr(chunks, "CHUNK", size)
    for aggregator, before in zip(aggregators, expected, strict=True):
        assert combined(aggregator, found).tobytes() == before.tobytes()
    assert squares_from_mean({KEY: expected[0]}, found, anchor) == pytest.approx(squares, rel=1e-12)


def test_types_and_shapes_stay() -> None:
    result = Server("fedmedian").combine("generator", updates(4), {})
    assert (result[KEY].dtype, result[KEY].shape) == (np.float32, (7, 5))
    assert (result["generator.n"].dtype, result["generator.n"].shape) == (np.int64, ())
    assert int(result["generator.n"]) == 12  # between 11 and 12, rounded to even


@pytest.mark.parametrize(
    ("fraction", "sites", "expected"),
    [(0.25, 4, 1), (0.25, 3, 0), (0.2, 5, 1), (0.3, 10, 3), (0.49, 2, 0), (0.1, 10, 1)],
)
def test_the_number_of_dropped_values_is_rounded_down(
    fraction: float, sites: int, expected: int
) -> None:
    assert trimmed_at_each_end(fraction, sites) == expected


@pytest.mark.parametrize("lie", [-10.0, 1000.0, -1.0])
def test_one_hostile_site_of_four_moves_the_mean_but_not_the_robust_ones(lie: float) -> None:
    rng = np.random.default_rng(5)
    truth = rng.normal(size=500)
    honest = [truth + 0.01 * rng.normal(size=500) for _ in range(3)]
    found = [SiteUpdate(str(n), {KEY: value}, 1.0) for n, value in enumerate(honest)]
    found.append(SiteUpdate("hostile", {KEY: lie * truth}, 1.0))

    def error(aggregator: Server) -> float:
        return float(np.abs(combined(aggregator, found) - truth).max())

    assert error(Server("fedavg")) > 1.0
    assert error(Server("fedmedian")) < 0.1
    assert error(Server("trimmed_mean", trim_fraction=0.25)) < 0.1
