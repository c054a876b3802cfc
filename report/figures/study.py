"""Draw a study: differences with their intervals, and curves with their range over seeds."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from report.figures.style import (
    REFERENCE_COLOUR,
    STYLE,
    WIDTH_INCHES,
    LineStyle,
    add_legend,
)
from report.numbers.rows import TableRow
from report.numbers.study import StudyComparison, StudyTests

_ROW_INCHES = 0.42
_BAND = "#e4ecf3"


def draw_differences(tests: StudyTests, margin: float) -> Figure:
    """A line per comparison: every seed's difference, the mean, its interval, the margin as band.

    Args:
        tests: of the primary outcome, one or more comparisons.
        margin: of equivalence, in the metric's unit.
    """
    places = np.arange(len(tests.comparisons))[::-1]
    unit = f" ({tests.metric.unit})" if tests.metric.unit else ""
    with matplotlib.rc_context(STYLE):
        height = 1.1 + _ROW_INCHES * len(places)
        figure = Figure(figsize=(0.72 * WIDTH_INCHES, height), layout="constrained")
        axis = figure.subplots()
        axis.axvspan(-margin, margin, color=_BAND, zorder=0)
        axis.axvline(0, color="#888888", linewidth=1, zorder=1)
        for place, comparison in zip(places, tests.comparisons, strict=True):
            _draw_comparison(axis, comparison, int(place))
        axis.set_yticks(places, [comparison.other.label for comparison in tests.comparisons])
        axis.set_ylim(-0.6, len(places) - 0.4)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(f"{tests.reference.label} minus the other arm, {tests.metric.label}{unit}")
        return figure


def _draw_comparison(axis: Axes, comparison: StudyComparison, place: int) -> None:
    seeds = [value for value in comparison.per_seed.values() if np.isfinite(value)]
    axis.plot(seeds, np.full(len(seeds), place + 0.16), "o", color="#9aa5b1", ms=4, zorder=2)
    if comparison.test is not None:
        low, high = comparison.test.interval
        axis.plot([low, high], [place, place], color=REFERENCE_COLOUR, linewidth=2, zorder=3)
        axis.plot(comparison.test.mean, place, "D", color=REFERENCE_COLOUR, ms=6, zorder=4)


def draw_spread_curves(
    curves: Mapping[TableRow, pd.DataFrame], styles: Mapping[str, LineStyle], label: str
) -> Figure:
    """The mean over seeds as a line, from the smallest to the largest seed as a band.

    Args:
        curves: arm to a table of rounds by seeds.
        styles: per row name.
        label: of the y axis.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.72 * WIDTH_INCHES, 3.4), layout="constrained")
        axis = figure.subplots()
        drawn = {}
        for row, table in curves.items():
            style = styles[row.name]
            low, high = table.min(axis=1), table.max(axis=1)
            axis.fill_between(table.index, low, high, color=style.colour, alpha=0.13, linewidth=0)
            (drawn[row.label],) = axis.plot(
                table.index,
                table.mean(axis=1),
                color=style.colour,
                linestyle=style.dashes,
                marker=style.marker,
            )
        axis.set_xlabel("round")
        axis.set_ylabel(label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        add_legend(figure, drawn)
        return figure
