"""The accountant against published values, a second accountant and the definition itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from fedi2i.errors import ConfigError
from lightning_modules.privacy.accountant import Release, epsilon, noise_for

ONCE = [  # six rounds without sampling: noise multiplier, delta, epsilon
    (0.5, 1e-3, 26.4),
    (1.0, 1e-3, 9.93),
    (5.0, 1e-3, 1.32),
    (20.0, 1e-3, 0.25),
    (1.0, 1e-5, 12.9),
    (5.0, 1e-5, 1.95),
    (50.0, 1e-5, 0.16),
]


@pytest.mark.parametrize(("noise", "delta", "expected"), ONCE)
def test_six_unsampled_rounds_spend_the_published_epsilon(
    noise: float, delta: float, expected: float
) -> None:
    spent = epsilon([Release(noise, count=6)], delta)
    assert spent == pytest.approx(expected, rel=0.01, abs=0.005)


def test_the_closed_form_meets_the_definition_on_a_grid_of_outcomes() -> None:
    """delta(eps) is the largest over all sets of P(set) - exp(eps) Q(set): integrate it."""
    noise, count, delta = 1.3, 3, 1e-4
    mu = math.sqrt(count) / noise
    spent = epsilon([Release(noise, count=count)], delta)
    outcomes = np.linspace(-12, 12, 400_001)
    more = norm.pdf(outcomes, mu) - math.exp(spent) * norm.pdf(outcomes)
    integral = float(np.clip(more, 0, None).sum() * (outcomes[1] - outcomes[0]))
    assert integral == pytest.approx(delta, rel=1e-3)


def test_replacing_a_site_s_data_costs_as_much_as_half_the_noise() -> None:
    replaced = epsilon([Release(5.0, sensitivity=2.0, count=6)], 1e-5)
    assert replaced == pytest.approx(epsilon([Release(2.5, count=6)], 1e-5))
    assert replaced == pytest.approx(4.28, abs=0.01)


def test_releases_of_several_kinds_are_one_gaussian_and_their_order_does_not_matter() -> None:
    parts = [Release(1.0, count=3), Release(2.0, count=4), Release(1.0, count=1)]
    one = Release(1 / math.sqrt(3 + 4 / 4 + 1))
    assert epsilon(parts, 1e-5) == pytest.approx(epsilon([one], 1e-5))
    assert epsilon(parts[::-1], 1e-5) == epsilon(parts, 1e-5)


def test_nothing_released_spends_nothing() -> None:
    assert epsilon([], 1e-5) == 0.0


def test_a_little_noise_spends_a_number_and_not_an_overflow() -> None:
    """Two networks over four rounds at sigma 0.01 protect nobody: the figure says so."""
    assert epsilon([Release(0.01, count=8)], 1e-5) == pytest.approx(41_000, rel=0.02)


@pytest.mark.parametrize(
    ("rate", "noise", "count", "delta", "expected"),
    [
        (2 / 120, 1.0, 900, 1e-3, 2.006),
        (2 / 10, 2.0, 1800, 1e-2, 19.49),
        (2 / 30, 4.0, 1800, 1 / 300, 1.806),
    ],
)
def test_sampled_patients_spend_what_two_accountants_agree_on(
    rate: float, noise: float, count: int, delta: float, expected: float
) -> None:
    spent = epsilon([Release(noise, sampling_rate=rate, count=count)], delta)
    assert spent == pytest.approx(expected, abs=0.002)
    opacus = pytest.importorskip("opacus.accountants", reason="needs opacus")
    other = opacus.PRVAccountant()
    other.history = [(noise, rate, count)]
    assert spent == pytest.approx(other.get_epsilon(delta=delta), abs=0.02)


def test_the_numerical_composition_meets_the_closed_form_where_nothing_is_sampled() -> None:
    # A sampled release with so much noise that it adds nothing makes the numerical way be taken.
    silent = Release(1e5, sampling_rate=0.5)
    numerical = epsilon([Release(5.0, count=6), silent], 1e-5)
    assert numerical == pytest.approx(epsilon([Release(5.0, count=6)], 1e-5), abs=2e-3)


def test_the_noise_for_an_epsilon_spends_that_epsilon() -> None:
    wanted = Release(1.0, sensitivity=2.0, count=12)
    noise = noise_for(3.0, 1e-5, wanted)
    spent = epsilon([Release(noise, sensitivity=2.0, count=12)], 1e-5)
    assert spent == pytest.approx(3.0, rel=1e-3)


def test_sampled_releases_that_spend_hundreds_are_bounded_without_composing_them() -> None:
    """A job could otherwise ask a site for gigabytes: 0.3 takes one, 0.2 several."""
    sampled = epsilon([Release(0.01, sampling_rate=0.1, count=1800)], 1e-5)
    assert sampled == epsilon([Release(0.01, count=1800)], 1e-5) > 1e6


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Release(0.0), "noise_multiplier is 0.0"),
        (lambda: Release(math.nan), "noise_multiplier is nan"),
        (lambda: Release(1.0, sampling_rate=1.5), "sampling_rate is 1.5"),
        (lambda: Release(1.0, sampling_rate=0.0), "sampling_rate is 0.0"),
        (lambda: Release(1.0, count=0), "count is 0"),
        (lambda: Release(1.0, sensitivity=3.0), "sensitivity is 3.0"),
        (lambda: Release(1.0, sensitivity=2.0, sampling_rate=0.5), "sampling_rate is below 1"),
        (lambda: epsilon([Release(1.0)], 0.0), "delta is 0.0"),
        (lambda: epsilon([Release(1.0)], 1.0), "delta is 1.0"),
        (lambda: noise_for(0.0, 1e-5, Release(1.0)), "epsilon is 0.0"),
    ],
)
def test_what_accountants_answer_with_a_number_is_refused_by_name(make: object, word: str) -> None:
    with pytest.raises(ConfigError, match=word.replace(".", r"\.")):
        make()  # type: ignore[operator]
