"""Draw the primary outcome of a study: differences with their intervals."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from report.figures.style import REFERENCE_COLOUR, STYLE, WIDTH_INCHES
from report.numbers.over_seeds.study import StudyComparison, StudyTests

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
