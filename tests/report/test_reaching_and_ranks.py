"""When a line reaches a goal, medians of runs of which some never do, races, and ranks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from report.numbers.over_seeds.convergence import ROUNDS
from report.numbers.over_seeds.reaching import (
    Reached,
    first_reached,
    median_over_runs,
    race,
)
from report.numbers.ranks import Ranks, rank_blocks
from report.page.studies.over_seeds import place_text

START = (10.5, 15.0, 18.0, 20.0)
GOAL = 14 + 0.95 * (22 - 14)


@pytest.mark.parametrize(
    ("end", "place", "censored"),
    [
        ((21.2, 21.7, 21.9), 4.8, False),
        ((21.0, 21.3, 21.5), 6.0, True),
        ((21.6, 21.5, 21.9), 4.0, False),
    ],
)
def test_a_line_arrives_where_it_first_touches_the_goal_or_is_censored_at_its_end(
    end: tuple[float, ...], place: float, censored: bool
) -> None:
    values = np.array((*START, *end))
    found = first_reached(np.arange(7.0), values, GOAL)
    assert found.place == pytest.approx(place, abs=1e-6)
    assert found.censored is censored


def test_a_line_that_begins_above_the_goal_is_there_at_once_and_an_empty_one_is_refused() -> None:
    assert first_reached(np.array([2.0, 3.0]), np.array([22.0, 21.0]), 21.6) == Reached(2.0)
    with pytest.raises(ValueError, match="at least one point"):
        first_reached(np.array([]), np.array([]), 21.6)
    with pytest.raises(ValueError, match="numbers only"):
        first_reached(np.array([0.0, 1.0]), np.array([20.0, np.nan]), 21.6)


NEVER = Reached(6.0, censored=True)


@pytest.mark.parametrize(
    ("runs", "median"),
    [
        ((Reached(3.9), Reached(4.8), Reached(5.2), NEVER, NEVER), "5.2"),
        ((Reached(4.8), Reached(5.2), NEVER, NEVER, NEVER), "> 6"),
        ((Reached(4.8), NEVER), "> 5.4"),
        ((Reached(4.0), Reached(5.0), NEVER, NEVER, Reached(4.4), Reached(4.6)), "4.8"),
    ],
)
def test_the_median_of_runs_counts_those_that_never_arrived_as_the_latest(
    runs: tuple[Reached, ...], median: str
) -> None:
    assert place_text(median_over_runs(runs).median, ROUNDS) == median


def test_smallest_to_largest_of_five_cover_the_median_with_15_of_16_and_of_six_with_31_of_32() -> (
    None
):
    five = median_over_runs([Reached(float(place)) for place in (5, 1, 4, 2, 3)])
    assert (five.low, five.high, five.coverage) == (Reached(1.0), Reached(5.0), 0.9375)
    six = median_over_runs([Reached(float(place)) for place in range(6)])
    assert six.coverage == pytest.approx(31 / 32)


def test_the_interval_of_many_runs_is_the_widest_pair_of_order_statistics_that_still_covers() -> (
    None
):
    """Of 20 runs the 6th and the 15th, which cover with 95.86 %; SciPy's sign test agrees."""
    found = median_over_runs([Reached(float(place)) for place in range(1, 21)])
    assert (found.low.place, found.high.place) == (6, 15)
    assert found.coverage == pytest.approx(0.9586, abs=5e-5)
    assert stats.binomtest(5, 20).pvalue < 0.05 < stats.binomtest(6, 20).pvalue


def test_a_race_counts_seeds_and_one_that_never_arrives_is_behind_one_that_does() -> None:
    arm = [Reached(3.0), Reached(5.0), NEVER, NEVER, Reached(2.0)]
    reference = [Reached(4.0), Reached(4.5), Reached(6.0), NEVER, Reached(2.0)]
    found = race(arm, reference)
    assert (found.earlier, found.later, found.undecided) == (1, 2, 2)
    assert found.p == pytest.approx(1.0)
    assert race([Reached(1.0)] * 6, [Reached(2.0)] * 6).p == pytest.approx(2 / 2**6)


def test_eight_blocks_have_the_ranks_and_the_critical_difference_computed_elsewhere() -> None:
    blocks = [(1, 2, 3, 4)] * 5 + [(2, 1, 4, 3)] * 2 + [(4, 3, 2, 1)]
    found = rank_blocks(np.array(blocks, dtype=float), higher_is_better=False)
    assert found is not None
    assert found.means == (1.625, 1.875, 3.125, 3.375)
    assert found.statistic == pytest.approx(11.1, abs=1e-6)
    assert found.p == pytest.approx(0.011197, abs=1e-6)
    assert found.critical_difference == pytest.approx(1.658303, abs=1e-6)
    assert found.alike() == ((0, 1, 2), (1, 2, 3))


def test_bars_of_the_diagram_join_exactly_the_pairs_that_are_not_told_apart() -> None:
    means = (3.0, 1.0, 2.2, 5.0, 2.9)
    found = Ranks(means, 6, 0.0, 1.0, critical_difference=1.3)
    joined = {
        frozenset((one, other))
        for group in found.alike()
        for one in group
        for other in group
        if one != other
    }
    near = {
        frozenset((one, other))
        for one in range(5)
        for other in range(one)
        if abs(means[one] - means[other]) <= 1.3
    }
    assert joined == near
