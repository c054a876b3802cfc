"""Draw a study at several levels: a panel per axis, a curve per strategy."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from report.figures.style import STYLE, WIDTH_INCHES, LineStyle, add_legend, line_styles
from report.numbers.over_seeds.levels import LevelsAnalysis
from report.numbers.rows import TableRow

PANELS_ABREAST = 3


def draw_levels(analysis: LevelsAnalysis) -> Figure:
    """The mean over runs at every level, with the standard deviation between runs as a bar.

    A level at an infinite place is a line across. What diverged is left out.
    """
    axes = analysis.study.axes
    abreast = min(PANELS_ABREAST, len(axes))
    deep = math.ceil(len(axes) / abreast)
    drawn: dict[str, Artist] = {}
    rows = [row for row in analysis.rows if row.is_federated]
    styles = line_styles(rows, rows)
    unit = f" ({analysis.metric.unit})" if analysis.metric.unit else ""
    with matplotlib.rc_context(STYLE):
        size = (WIDTH_INCHES * abreast / PANELS_ABREAST, 0.4 + 2.7 * deep)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(deep, abreast, squeeze=False, sharey=True).ravel()
        for panel, (name, axis) in zip(panels, axes.items(), strict=False):
            for row in rows:
                _draw_row(panel, analysis, name, row, styles[row.name], drawn)
            panel.set_xlabel(axis.label)
            if axis.log:
                panel.set_xscale("log")
        for panel in panels[len(axes) :]:
            panel.remove()
        for panel in panels[::abreast]:
            panel.set_ylabel(f"{analysis.metric.label}{unit}")
        add_legend(figure, drawn)
        return figure


def _draw_row(
    panel: Axes,
    analysis: LevelsAnalysis,
    axis: str,
    row: TableRow,
    style: LineStyle,
    drawn: dict[str, Artist],
) -> None:
    points = [
        (place, analysis.cells[level, row.name])
        for place, level in analysis.levels_on(axis)
        if (level, row.name) in analysis.cells
    ]
    points = [(place, means) for place, means in points if np.isfinite(means.mean)]
    for _, means in (point for point in points if math.isinf(point[0])):
        panel.axhline(means.mean, color=style.colour, linestyle=":", linewidth=1)
    points = [point for point in points if not math.isinf(point[0])]
    if points:
        bars = panel.errorbar(
            [place for place, _ in points],
            [means.mean for _, means in points],
            yerr=[means.spread or 0.0 for _, means in points],
            color=style.colour,
            linestyle=style.dashes,
            marker=style.marker,
            capsize=2,
            elinewidth=0.8,
        )
        drawn[row.label] = bars.lines[0]
