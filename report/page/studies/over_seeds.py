"""What a study's page shows beside its tests: ways to a goal, sites, mean ranks."""

from __future__ import annotations

from dataclasses import dataclass

from report.figures.over_seeds import draw_convergence, draw_critical_difference, draw_joining
from report.figures.style import as_address, line_styles
from report.number_format import NONE, byte_size, decimals_for, duration, number
from report.numbers.over_seeds.convergence import (
    BYTES,
    ROUNDS,
    SECONDS,
    ArmConvergence,
    StudyConvergence,
    study_convergence,
)
from report.numbers.over_seeds.ranks import StudyRanks, study_ranks
from report.numbers.over_seeds.reaching import MedianOverRuns, Reached
from report.numbers.over_seeds.sites import Joining, SiteFairness, site_fairness
from report.numbers.over_seeds.study import RunMeans, StudyAnalysis
from report.run.metrics import Metric


@dataclass(frozen=True)
class ConvergenceLine:
    """A line of Table 3, as text.

    Attributes:
        arm: its numbers.
        reached: ``5 of 6``.
        rounds: median and interval, or a dash; so are ``bytes`` and ``seconds``.
        bytes: see above.
        seconds: see above.
    """

    arm: ArmConvergence
    reached: str
    rounds: str
    bytes: str
    seconds: str


@dataclass(frozen=True)
class ConvergencePart:
    """Figure 2 and Table 3.

    Attributes:
        found: the numbers.
        label: of the metric, with its unit.
        plot: Figure 2 as an address.
        lines: of Table 3; empty without a goal.
        decimals: of the metric.
    """

    found: StudyConvergence
    label: str
    plot: str
    lines: tuple[ConvergenceLine, ...]
    decimals: int


@dataclass(frozen=True)
class SitesPart:
    """Tables 4 and 5, Figure 3.

    Attributes:
        found: the numbers.
        plot: Figure 3 as an address; None without local-only arms.
        decimals: of the metric.
    """

    found: SiteFairness
    plot: str | None
    decimals: int


@dataclass(frozen=True)
class RanksPart:
    """Figure 4.

    Attributes:
        found: the numbers.
        plot: the figure as an address.
    """

    found: StudyRanks
    plot: str


@dataclass(frozen=True)
class OverSeeds:
    """All parts; None where the study has nothing for one."""

    convergence: ConvergencePart | None
    sites: SitesPart | None
    ranks: RanksPart | None


def over_seeds(analysis: StudyAnalysis) -> OverSeeds:
    """Compute and draw all parts."""
    convergence, sites = study_convergence(analysis), site_fairness(analysis)
    ranks = study_ranks(analysis)
    return OverSeeds(
        convergence=None if convergence is None else _convergence(analysis, convergence),
        sites=None if sites is None else _sites(analysis, sites),
        ranks=None if ranks is None else RanksPart(ranks, _drawn_ranks(ranks)),
    )


def _convergence(analysis: StudyAnalysis, found: StudyConvergence) -> ConvergencePart:
    trained = [row for row in analysis.rows if row.is_trained]
    metric = found.metric
    label = f"validation {metric.label}{f' ({metric.unit})' if metric.unit else ''}"
    figure = draw_convergence(found, line_styles(trained, trained), label)
    lines = tuple(_line(arm) for arm in found.arms if arm.medians)
    return ConvergencePart(found, label, as_address(figure), lines, _decimals(analysis, metric))


def _line(arm: ArmConvergence) -> ConvergenceLine:
    rounds = arm.medians[ROUNDS]
    texts = {axis: median_text(arm.medians.get(axis), axis) for axis in (ROUNDS, BYTES, SECONDS)}
    return ConvergenceLine(
        arm=arm,
        reached=f"{rounds.reached} of {rounds.runs}",
        rounds=texts[ROUNDS],
        bytes=texts[BYTES],
        seconds=texts[SECONDS],
    )


def median_text(median: MedianOverRuns | None, axis: str) -> str:
    """``5.2 [3.9, > 6]``; alone where there is no interval, a dash where nothing was recorded."""
    if median is None:
        return NONE
    if median.runs == 1 or median.low.censored:
        return place_text(median.median, axis)
    low, high = place_text(median.low, axis), place_text(median.high, axis)
    return f"{place_text(median.median, axis)} [{low}, {high}]"


def place_text(found: Reached, axis: str) -> str:
    """``4.8``, ``12.3 MB``, ``3 min 20 s``; with ``>`` before it if the goal was not reached."""
    if axis == BYTES:
        text = byte_size(round(found.place))
    elif axis == SECONDS:
        text = duration(found.place)
    else:
        text = number(found.place, 0 if found.censored and found.place % 1 == 0 else 1)
    return f"> {text}" if found.censored else text


def _sites(analysis: StudyAnalysis, found: SiteFairness) -> SitesPart:
    federated = [row for row in analysis.rows if row.is_federated]
    plot = None
    if found.joining:
        plot = as_address(draw_joining(found, line_styles(federated, federated)))
    return SitesPart(found, plot, _decimals(analysis, found.metric))


def _drawn_ranks(found: StudyRanks) -> str:
    return as_address(draw_critical_difference(found))


def _decimals(analysis: StudyAnalysis, metric: Metric) -> int:
    if metric.decimals is not None:
        return metric.decimals
    table = next((table for table in analysis.tables if table.metric == metric), None)
    return decimals_for(1.0) if table is None else table.decimals


def means_text(means: RunMeans, decimals: int, signed: bool = False) -> str:
    """``21.31 ± 0.40`` over runs; of one run, or what no seed changes, the mean alone."""
    mean = number(means.mean, decimals, signed=signed)
    return f"{mean} ± {number(means.spread, decimals)}" if means.spread else mean


def joining_means(item: Joining) -> RunMeans:
    """What a site gains or loses, in every run."""
    return RunMeans(item.per_seed)


def joining_words(item: Joining) -> str:
    """The verdict of one site in a word or two."""
    if item.test is None:
        return f"not tested: {item.why_not}"
    return {True: "gains", False: "loses", None: "not told apart"}[item.gains]
