"""When a line first reaches a goal, and the median over runs of which some never did.

A run that never reached the goal is censored: all that is known is that it would have come later
than its end. Order statistics need no more than that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from report.numbers.statistics import CONFIDENCE

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reached:
    """Where a line reached its goal.

    Attributes:
        place: on the axis of the line; where it ended, if the goal was not reached.
        censored: whether the goal was not reached.
    """

    place: float
    censored: bool = False


@dataclass(frozen=True)
class MedianOverRuns:
    """The median of several runs with an interval from order statistics.

    Attributes:
        median: of an even number the mean of both in the middle; censored where one of them is.
        low: lower end of the interval.
        high: upper end.
        coverage: probability that the interval holds the true median, whatever the distribution;
            below 0.95 where there are fewer than six runs.
        reached: number of runs that reached the goal.
        runs: number of runs.
    """

    median: Reached
    low: Reached
    high: Reached
    coverage: float
    reached: int
    runs: int


def first_reached(places: Values, values: Values, goal: float) -> Reached:
    """Where a line, straight between its points, first reaches the goal from below.

    Args:
        places: of the points, ascending: rounds, bytes or seconds.
        values: at the points, higher being better; all numbers.
        goal: the value to reach.

    Raises:
        ValueError: there is no point, or a value is no number.
    """
    if len(places) == 0 or not np.isfinite(values).all():
        raise ValueError("a line needs at least one point, and numbers only")
    above = np.flatnonzero(values >= goal)
    if len(above) == 0:
        return Reached(float(places[-1]), censored=True)
    after = int(above[0])
    if after == 0:
        return Reached(float(places[0]))
    start, end = values[after - 1], values[after]
    part = (goal - start) / (end - start)
    return Reached(float(places[after - 1] + part * (places[after] - places[after - 1])))


def median_over_runs(found: Sequence[Reached]) -> MedianOverRuns:
    """The median over runs and its interval, both from order statistics.

    A censored run counts as later than every run that reached the goal. The interval goes from the
    k-th smallest to the k-th largest run, k being the largest number that covers the median with
    0.95, and 1 where none does (David and Nagaraja 2003, doi:10.1002/0471722162, section 7.1).

    Args:
        found: one for each run, at least one.
    """
    ordered = sorted(found, key=lambda run: (run.censored, run.place))
    runs, middle = len(ordered), len(ordered) // 2
    median = ordered[middle] if runs % 2 else _between(ordered[middle - 1], ordered[middle])
    wide = [k for k in range(2, runs // 2 + 1) if _coverage(k, runs) >= CONFIDENCE]
    outer = max(wide, default=1)
    return MedianOverRuns(
        median=_earliest_end(median, ordered),
        low=_earliest_end(ordered[outer - 1], ordered),
        high=_earliest_end(ordered[runs - outer], ordered),
        coverage=_coverage(outer, runs),
        reached=sum(not run.censored for run in found),
        runs=runs,
    )


def _between(first: Reached, second: Reached) -> Reached:
    return Reached((first.place + second.place) / 2, second.censored)


def _earliest_end(value: Reached, runs: Sequence[Reached]) -> Reached:
    """A censored value says no more than that the run which ended first had not reached it."""
    if not value.censored:
        return value
    return Reached(min(value.place, *(run.place for run in runs if run.censored)), censored=True)


def _coverage(outer: int, runs: int) -> float:
    return float(1 - 2 * stats.binom.cdf(outer - 1, runs, 0.5)) if runs > 1 else 0.0


@dataclass(frozen=True)
class Race:
    """Which of two arms reached the goal first, seed by seed.

    Attributes:
        earlier: seeds in which the arm was before the reference.
        later: seeds in which it was behind.
        undecided: seeds in which both were there at once, or neither was.
        p: of the exact two-sided sign test, undecided seeds left out; 1 without any other.
    """

    earlier: int
    later: int
    undecided: int
    p: float


def race(arm: Sequence[Reached], reference: Sequence[Reached]) -> Race:
    """Compare two arms that share their seeds.

    Args:
        arm: one for each seed.
        reference: one for each seed, in the same order.
    """
    ahead = [_ahead(one, other) for one, other in zip(arm, reference, strict=True)]
    earlier, later = ahead.count(1), ahead.count(-1)
    decided = earlier + later
    p = float(stats.binomtest(earlier, decided).pvalue) if decided else 1.0
    return Race(earlier, later, len(ahead) - decided, p)


def _ahead(one: Reached, other: Reached) -> int:
    """1 where the first is earlier, -1 where the second is, 0 where nobody can say."""
    if one.censored and other.censored:
        return 0
    places = [math.inf if run.censored else run.place for run in (one, other)]
    return int(np.sign(places[1] - places[0]))
