"""Draw what the runs of a study say together: ways to a goal, mean ranks, what sites gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from report.figures.style import STYLE, WIDTH_INCHES, LineStyle, add_legend
from report.numbers.over_seeds.convergence import (
    AXES,
    BYTES,
    ROUNDS,
    SECONDS,
    VALUE,
    ArmConvergence,
    StudyConvergence,
)
from report.numbers.over_seeds.ranks import StudyRanks
from report.numbers.over_seeds.sites import Joining, SiteFairness

MEGABYTE = 1e6
AXIS_LABELS = {
    ROUNDS: "rounds",
    BYTES: "megabytes, both ways, all sites",
    SECONDS: "seconds of training, slowest site",
}
_GOAL = "#888888"
_FLOOR_DASHES = ("-.", (0, (6, 3)))
_PANEL_INCHES = 2.9
_NAME_PART = 0.4
"""Room for names beside the scale of ranks, as a part of its length."""


@dataclass(frozen=True)
class _Way:
    """One line with its band, a point per round: means, lowest and highest over seeds."""

    places: pd.Series
    middle: pd.Series
    low: pd.Series
    high: pd.Series


def draw_convergence(
    convergence: StudyConvergence, styles: Mapping[str, LineStyle], label: str
) -> Figure:
    """The metric against rounds, bytes and seconds: a panel for each that was recorded.

    A line is the mean over the seeds, drawn at their mean place; its band goes from the lowest to
    the highest seed.

    Args:
        convergence: one or more arms.
        styles: per row name.
        label: of the y axis.
    """
    ways = {axis: _ways(convergence.arms, axis) for axis in AXES}
    shown = [axis for axis in AXES if ways[axis]]
    with matplotlib.rc_context(STYLE):
        width = WIDTH_INCHES * max(len(shown), 2) / len(AXES)
        figure = Figure(figsize=(width, _PANEL_INCHES + 0.5), layout="constrained")
        panels: Sequence[Axes] = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
        drawn: dict[str, Line2D] = {}
        for axes, axis in zip(panels, shown, strict=True):
            for arm, way in ways[axis]:
                drawn[arm.row.label] = _draw_way(axes, way, styles[arm.row.name])
            drawn |= _drawn_across(axes, convergence)
            axes.set_xlabel(AXIS_LABELS[axis])
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=axis == ROUNDS))
        panels[0].set_ylabel(label)
        add_legend(figure, drawn)
        return figure


def _drawn_across(axes: Axes, convergence: StudyConvergence) -> dict[str, Line2D]:
    """Lines across a panel, by label: the goal, and what needs no network."""
    drawn: dict[str, Line2D] = {}
    if convergence.goal is not None:
        drawn["95 % of the way"] = axes.axhline(
            convergence.goal.value, color=_GOAL, linestyle=":", linewidth=1.2
        )
    for (label, value), dashes in zip(convergence.floors.items(), _FLOOR_DASHES, strict=False):
        drawn[label] = axes.axhline(value, color=_GOAL, linestyle=dashes, linewidth=1.0)
    return drawn


def _ways(arms: Sequence[ArmConvergence], axis: str) -> list[tuple[ArmConvergence, _Way]]:
    """The lines of all arms of which every run recorded this axis."""
    return [(arm, way) for arm in arms if (way := _way(arm, axis)) is not None]


def _way(arm: ArmConvergence, axis: str) -> _Way | None:
    """The rounds that all runs of an arm have; None where a run did not record the axis."""
    if any(line[axis].isna().any() for line in arm.lines.values()):
        return None
    places = pd.DataFrame({seed: line[axis] for seed, line in arm.lines.items()}).dropna()
    values = pd.DataFrame({seed: line[VALUE] for seed, line in arm.lines.items()}).dropna()
    scale = MEGABYTE if axis == BYTES else 1.0
    mean = places.mean(axis=1) / scale
    return _Way(mean, values.mean(axis=1), values.min(axis=1), values.max(axis=1))


def _draw_way(axes: Axes, way: _Way, style: LineStyle) -> Line2D:
    axes.fill_between(way.places, way.low, way.high, color=style.colour, alpha=0.13, linewidth=0)
    (line,) = axes.plot(
        way.places,
        way.middle,
        color=style.colour,
        linestyle=style.dashes,
        marker=style.marker,
        markerfacecolor=style.colour if style.filled else "white",
        markevery=max(1, len(way.places) // 8),
    )
    return line


def draw_critical_difference(found: StudyRanks) -> Figure:
    """Mean ranks on a line, with a bar over those that are not told apart (Demsar 2006).

    The best rank stands on the left; names hang below it on both sides.
    """
    means = found.ranks.means
    order = sorted(range(len(means)), key=lambda column: means[column])
    count, groups = len(order), [group for group in found.ranks.alike() if len(group) > 1]
    left = (count + 1) // 2
    lowest = -0.45 * max(left, count - left) - 0.22 * len(groups) - 0.2
    with matplotlib.rc_context(STYLE):
        size = (0.62 * WIDTH_INCHES, 0.8 - 0.6 * lowest)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.set_xlim(1 - _NAME_PART * count, count + _NAME_PART * count)
        axes.set_ylim(lowest, 1.0)
        axes.set_axis_off()
        _draw_scale(axes, count, found.ranks.critical_difference)
        for place, group in enumerate(groups):
            ends = (means[group[0]] - 0.04, means[group[-1]] + 0.04)
            axes.plot(ends, [-0.2 - 0.22 * place] * 2, color="#222222", linewidth=3.5)
        under = -0.22 * len(groups) - 0.2
        for place, column in enumerate(order):
            is_left = place < left
            depth = under - 0.45 * (place if is_left else count - 1 - place) - 0.15
            _draw_name(axes, found.rows[column].label, means[column], depth, is_left, count)
        return figure


def _draw_scale(axes: Axes, count: int, difference: float) -> None:
    axes.plot([1, count], [0, 0], color="#222222", linewidth=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [0, 0.1], color="#222222", linewidth=1)
        axes.text(rank, 0.15, str(rank), ha="center", va="bottom")
    end = 1 + difference
    axes.plot([1, end], [0.62, 0.62], color="#222222", linewidth=1.4, marker="|")
    axes.text(1, 0.7, f"critical difference {difference:.2f}", ha="left", va="bottom")


def _draw_name(
    axes: Axes, label: str, mean: float, depth: float, is_left: bool, count: int
) -> None:
    end = 0.85 if is_left else count + 0.15
    axes.plot([mean, mean, end], [0, depth, depth], color="#666666", linewidth=0.9)
    axes.plot(mean, 0, "o", color="#222222", markersize=3.5)
    side = "right" if is_left else "left"
    place = end - 0.05 if is_left else end + 0.05
    axes.text(place, depth, f"{label} ({mean:.2f})", ha=side, va="center")


def draw_joining(fairness: SiteFairness, styles: Mapping[str, LineStyle]) -> Figure:
    """What every site gets beyond its own local-only model: seeds small, their mean large.

    Args:
        fairness: with one or more pairs of arm and site.
        styles: per row name.
    """
    rows = list(dict.fromkeys(item.row for item in fairness.joining))
    unit = f" ({fairness.metric.unit})" if fairness.metric.unit else ""
    step = 0.8 / len(rows)
    with matplotlib.rc_context(STYLE):
        size = (0.62 * WIDTH_INCHES, 3.2)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color=_GOAL, linewidth=1, zorder=1)
        drawn = {}
        for item in fairness.joining:
            place = fairness.sites.index(item.site) - 0.4 + step * (rows.index(item.row) + 0.5)
            drawn[item.row.label] = _draw_site(axes, item, place, styles[item.row.name])
        axes.set_xticks(range(len(fairness.sites)), fairness.sites)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(f"joining minus training alone,\n{fairness.metric.label}{unit}")
        add_legend(figure, drawn)
        return figure


def _draw_site(axes: Axes, item: Joining, place: float, style: LineStyle) -> Line2D:
    seeds = np.array([value for value in item.per_seed.values() if np.isfinite(value)])
    axes.plot(
        np.full(len(seeds), place), seeds, "o", color=style.colour, alpha=0.35, markersize=2.6
    )
    (mean,) = axes.plot(
        [place],
        [seeds.mean() if len(seeds) else np.nan],
        color=style.colour,
        linestyle="none",
        marker=style.marker,
        markersize=6,
        markerfacecolor=style.colour if style.filled else "white",
    )
    return mean
