"""Who misses which round: by the seed alone, as often as asked, and never too many at once."""

from __future__ import annotations

import hashlib
from itertools import permutations
from statistics import fmean
from typing import Any

import pytest

from fedi2i.errors import ConfigError
from lightning_modules.training.participation import (
    EVERYBODY,
    Participation,
    participation_from,
)

SITES = ("north", "east", "south", "west")


def draw(seed: int, site: str, number: int) -> float:
    """The draw by its definition: the first 63 bits of a hash of the names, as a part of 1."""
    text = f"{seed}/participation/{site}/{number}".encode()
    return (int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1) / 2**63


def test_a_site_misses_the_rounds_in_which_its_own_draw_is_below_the_probability() -> None:
    plan = Participation(missing=0.4)
    for number in range(30):
        there = plan.present(SITES, 1, 7, number)
        expected = sorted(site for site in SITES if draw(7, site, number) >= 0.4)
        assert list(there) == (expected or [max(SITES, key=lambda s: draw(7, s, number))])


def test_the_order_of_the_sites_does_not_matter_and_the_seed_does() -> None:
    plan = Participation(missing=0.5)
    orders = {plan.present(order, 2, 11, 3) for order in permutations(SITES)}
    assert len(orders) == 1
    runs = {tuple(plan.present(SITES, 2, seed, n) for n in range(10)) for seed in range(5)}
    assert len(runs) == 5


def test_sites_are_missing_as_often_as_asked_where_enough_remain() -> None:
    plan, sites = Participation(missing=0.25), [f"site-{n}" for n in range(40)]
    there = [len(plan.present(sites, 1, 3, number)) for number in range(200)]
    # 8,000 draws: the standard error of the mean share is 0.005.
    assert fmean(there) / 40 == pytest.approx(0.75, abs=0.02)


def test_as_many_sites_remain_as_a_round_needs_and_the_least_likely_to_miss_it() -> None:
    plan = Participation(missing=0.95)
    for number in range(50):
        there = plan.present(SITES, 3, 5, number)
        assert len(there) >= 3
        least_likely = sorted(SITES, key=lambda s: draw(5, s, number))[0]
        assert len(there) == 4 or least_likely not in there


def test_a_straggler_does_its_part_of_the_steps_and_one_at_least() -> None:
    plan = Participation(stragglers={"east": 0.25, "west": 0.001})
    assert [plan.steps(site, 30) for site in SITES] == [30, 8, 30, 1]
    assert plan.present(SITES, 4, 1, 0) == tuple(sorted(SITES))
    assert plan.site_steps(SITES, 4, 1, rounds=3, steps=30) == 3 * (30 + 8 + 30 + 1)


def test_without_a_plan_everybody_does_everything() -> None:
    assert not EVERYBODY.acts
    assert EVERYBODY.site_steps(SITES, 1, 1, rounds=5, steps=10) == 200


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"missing": 1.0}, "missing is 1.0; it must be in"),
        ({"missing": -0.1}, "missing is -0.1"),
        ({"stragglers": {"east": 0.0}}, "of 'east' is 0.0; write which part"),
        ({"stragglers": {"east": 1.5}}, "of 'east' is 1.5; write which part"),
        ({"stragglers": {"east": "slow"}}, "stragglers"),
        ({"misssing": 0.1}, "did you mean 'missing'"),
    ],
)
def test_a_plan_that_cannot_be_is_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        participation_from(values, "here")
