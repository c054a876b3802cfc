"""The clipped and noised update: its length, its noise, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from fedi2i.errors import DataError
from lightning_modules.privacy.update_noise import noised_update, system_noise

CLIPPING = {"generator": 2.0, "discriminator": 0.5}


def _state(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(seed)
    shapes = {"generator.a": (8, 4, 3, 3), "generator.b": (8,), "discriminator.a": (5, 7)}
    return {k: (scale * drawn.normal(size=s)).astype(np.float32) for k, s in shapes.items()}


def _moved(received: dict[str, np.ndarray], by: float) -> dict[str, np.ndarray]:
    return {key: value + by * _state(2)[key] for key, value in received.items()}


def _length(state: dict[str, np.ndarray], base: dict[str, np.ndarray], network: str) -> float:
    parts = [(state[k] - base[k]).ravel() for k in state if k.startswith(network)]
    return float(np.linalg.norm(np.concatenate(parts)))


def test_a_long_update_keeps_its_direction_and_gets_its_network_s_length() -> None:
    received = _state(1)
    trained = _moved(received, by=3.0)
    result = noised_update(received, trained, CLIPPING, noise_multiplier=0.0)
    for network, bound in CLIPPING.items():
        assert _length(result.state, received, network) == pytest.approx(bound, rel=1e-5)
        assert result.norms[network] == pytest.approx(_length(trained, received, network), rel=1e-5)
    before = (trained["generator.a"] - received["generator.a"]).ravel()
    after = (result.state["generator.a"] - received["generator.a"]).ravel()
    assert np.corrcoef(before, after)[0, 1] == pytest.approx(1.0, abs=1e-6)


def test_a_short_update_is_left_as_it_is() -> None:
    received = _state(1)
    trained = _moved(received, by=1e-3)
    result = noised_update(received, trained, CLIPPING, noise_multiplier=0.0)
    for key, value in trained.items():
        np.testing.assert_allclose(result.state[key], value, rtol=0, atol=1e-7)
        assert result.state[key].dtype == np.float32
    assert list(result.state) == list(trained)


def test_a_site_that_learnt_nothing_sends_noise_alone() -> None:
    received = _state(1)
    result = noised_update(received, received, CLIPPING, noise_multiplier=1.0)
    assert result.norms == {"generator": 0.0, "discriminator": 0.0}
    assert _length(result.state, received, "generator") > 1.0


def test_the_noise_has_the_stated_spread_and_is_normal() -> None:
    size = 1_000_000
    received = {"generator.w": np.zeros(size), "discriminator.w": np.zeros(1000)}
    sent = noised_update(received, received, CLIPPING, noise_multiplier=0.7).state
    values = sent["generator.w"] / (0.7 * CLIPPING["generator"])
    assert values.std() == pytest.approx(1.0, abs=0.01)
    assert abs(values.mean()) < 0.005
    assert kstest(values[:50_000], "norm").pvalue > 1e-4
    assert np.isfinite(values).all()


def test_no_two_draws_repeat_whatever_the_seeds() -> None:
    np.random.seed(0)
    first = system_noise()(100)
    np.random.seed(0)
    second = system_noise()(100)
    assert not np.any(first == second)
    one = system_noise()
    assert not np.any(one(100) == one(100))


def _with(state: dict[str, np.ndarray], key: str, value: np.ndarray) -> dict[str, np.ndarray]:
    return {**state, key: value}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: _with(s, "generator.b", np.full(8, np.nan, np.float32)), "not finite"),
        (lambda s: _with(s, "generator.b", np.full(8, np.inf, np.float32)), "not finite"),
        (lambda s: _with(s, "generator.b", np.zeros(9, np.float32)), "was received as"),
        (lambda s: _with(s, "generator.b", np.zeros(8, np.int64)), "no weight but int64"),
        (lambda s: {k: v for k, v in s.items() if k != "generator.b"}, "has not the arrays"),
        (lambda s: _with(s, "extra.w", np.zeros(1)), "has not the arrays"),
    ],
)
def test_what_nothing_bounds_does_not_leave(change: object, words: str) -> None:
    received = _state(1)
    with pytest.raises(DataError, match=words):
        noised_update(received, change(_moved(received, 1.0)), CLIPPING, 1.0)  # type: ignore[operator]


def test_a_network_without_a_clipping_norm_does_not_leave() -> None:
    received = _state(1)
    with pytest.raises(DataError, match="without a clipping norm"):
        noised_update(received, received, {"generator": 1.0}, 1.0)
