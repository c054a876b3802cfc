from __future__ import annotations

import math

import pytest

from fedi2i.epsilon import stated_epsilon


def test_two_processors_state_the_same_epsilon() -> None:
    """These two came from one job on two machines, by the same versions of all packages."""
    assert stated_epsilon(29.772566172840804) == stated_epsilon(29.772566172754626) == 29.7726


@pytest.mark.parametrize("spent", [1e-9, 0.1234561, 1.0000001, 42_000.04, 3.0e12 + 1])
def test_a_stated_epsilon_is_a_bound_and_hardly_larger(spent: float) -> None:
    assert spent <= stated_epsilon(spent) <= spent * (1 + 1e-5)


@pytest.mark.parametrize("budget", [0.0, 0.1, 5.0, 29.7726, 100.0, math.inf])
def test_an_epsilon_of_few_digits_stays_what_it_is(budget: float) -> None:
    assert stated_epsilon(budget) == budget
