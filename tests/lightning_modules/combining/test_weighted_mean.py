from __future__ import annotations

import itertools

import numpy as np
import pytest
from nvflare_fakes import weights_of

from lightning_modules.combining.updates import SiteUpdate
from lightning_modules.combining.weighted_mean import weighted_mean


def update(site: str, samples: float, seed: int) -> SiteUpdate:
    return SiteUpdate(site, weights_of(seed), samples)


def test_sites_of_one_and_three_samples_weigh_a_quarter_and_three_quarters() -> None:
    a, b = np.array([4.0, -8.0], np.float32), np.array([8.0, 0.0], np.float32)
    mean = weighted_mean([SiteUpdate("a", {"w": a}, 1), SiteUpdate("b", {"w": b}, 3)])
    np.testing.assert_array_equal(mean["w"], np.array([7.0, -2.0], np.float32))


def test_the_mean_is_the_one_numpy_computes_in_float64() -> None:
    updates = [update("a", 5, 1), update("b", 11, 2), update("c", 7, 3)]
    mean = weighted_mean(updates)
    for key in ("generator.w", "generator.b"):
        stacked = np.stack([u.weights[key].astype(np.float64) for u in updates])
        expected = np.average(stacked, axis=0, weights=[5, 11, 7])
        np.testing.assert_allclose(mean[key], expected, rtol=1e-7, atol=0)


def test_a_single_site_gets_its_own_model_back_bit_for_bit() -> None:
    weights = weights_of(4)
    mean = weighted_mean([SiteUpdate("a", weights, 17)])
    assert {key: value.tobytes() for key, value in mean.items()} == {
        key: value.tobytes() for key, value in weights.items()
    }


@pytest.mark.parametrize("samples", [(1, 1, 1), (3, 7, 11), (1, 1000, 13)])
def test_sites_that_agree_keep_their_common_model_bit_for_bit(samples: tuple[int, ...]) -> None:
    weights = weights_of(5)
    mean = weighted_mean([SiteUpdate(str(n), weights, n) for n in samples])
    assert {k: v.tobytes() for k, v in mean.items()} == {k: v.tobytes() for k, v in weights.items()}


def test_multiplying_all_sample_counts_changes_nothing() -> None:
    once = weighted_mean([update("a", 2, 1), update("b", 6, 2)])
    often = weighted_mean([update("a", 50, 1), update("b", 150, 2)])
    for key, value in once.items():
        np.testing.assert_array_equal(value, often[key])


def test_integer_buffers_take_the_largest_value_and_stay_integer_arrays() -> None:
    counts = {"a": 7, "b": 12, "c": 9}
    mean = weighted_mean(
        [
            SiteUpdate(site, {"n": np.array(count), "v": np.array([count, -count])}, 100 - count)
            for site, count in counts.items()
        ]
    )
    assert int(mean["n"]) == 12
    np.testing.assert_array_equal(mean["v"], [12, -7])
    for key in ("n", "v"):
        assert isinstance(mean[key], np.ndarray)
        assert mean[key].dtype == np.int64
    assert mean["n"].shape == ()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_arrays_keep_their_type_and_shape(dtype: type) -> None:
    values = [np.array([[1, 2]], dtype), np.array([[3, 4]], dtype)]
    mean = weighted_mean([SiteUpdate(str(i), {"w": v}, 1) for i, v in enumerate(values)])
    assert mean["w"].dtype == dtype
    assert mean["w"].shape == (1, 2)


def test_sums_run_in_float64_so_that_small_values_survive_large_ones() -> None:
    values = [2.0**24, 1.0, 1.0, -(2.0**24)]  # float32 would lose both ones: 2^24 + 1 = 2^24
    updates = [
        SiteUpdate(str(i), {"w": np.array([v], np.float32)}, 1) for i, v in enumerate(values)
    ]
    assert float(weighted_mean(updates)["w"][0]) == 0.5


def test_the_received_arrays_are_not_changed() -> None:
    updates = [update("a", 2, 1), update("b", 6, 2)]
    before = [{k: v.copy() for k, v in u.weights.items()} for u in updates]
    weighted_mean(updates)
    for kept, sent in itertools.zip_longest(before, updates):
        for key, value in kept.items():
            np.testing.assert_array_equal(value, sent.weights[key])


def test_running_variances_are_pooled_as_if_all_features_were_in_one_place() -> None:
    rng = np.random.default_rng(1)
    features = {"a": rng.normal(1.0, 2.0, size=(40, 3)), "b": rng.normal(-3.0, 0.5, size=(10, 3))}
    updates = [
        SiteUpdate(
            site,
            {"n.running_mean": values.mean(axis=0), "n.running_var": values.var(axis=0)},
            len(values),
        )
        for site, values in features.items()
    ]
    pooled = np.concatenate(list(features.values()))
    mean = weighted_mean(updates)
    np.testing.assert_allclose(mean["n.running_mean"], pooled.mean(axis=0))
    np.testing.assert_allclose(mean["n.running_var"], pooled.var(axis=0))
