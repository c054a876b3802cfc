"""Draw curves over rounds as small panels on shared axes; one figure each.

A panel per site shows all rows of the tables as lines. Where many lines on one pair of axes would
be a knot, there is a panel per strategy as well, with all others in the background.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from report.figures.style import (
    GLOBAL_COLOUR,
    PERSONAL_COLOUR,
    QUIET,
    REFERENCE_COLOUR,
    STYLE,
    WIDTH_INCHES,
    LineStyle,
    add_legend,
)
from report.number_format import number
from report.numbers.curves import CurveBook, late_range, mean_curve, site_curve, sites_with
from report.numbers.rows import TableRow
from report.run.records import Site

PANEL_HEIGHT_INCHES = 2.35
MULTIPLE_HEIGHT_INCHES = 1.55
MOST_COLUMNS = 5
QUIET_WIDTH = 0.9
OTHERS = "other federated arms"
MEAN_TITLE = "mean over federated sites"


@dataclass(frozen=True)
class CurvePanel:
    """One set of axes: a title, a y label and a line per table row."""

    title: str
    y_label: str
    curve: Callable[[TableRow], pd.Series]


def validation_panels(
    book: CurveBook, lines: Sequence[TableRow], metric: str, label: str
) -> list[CurvePanel]:
    """A panel per site that recorded the metric, and one with their mean."""
    mean = CurvePanel(MEAN_TITLE, label, lambda row: mean_curve(book, row, metric))
    return [*panels_per_site(book, lines, metric, label), mean]


def panels_per_site(
    book: CurveBook, lines: Sequence[TableRow], metric: str, label: str
) -> list[CurvePanel]:
    """A panel per site that recorded the metric."""

    def at(site: Site) -> Callable[[TableRow], pd.Series]:
        return lambda row: site_curve(book, row, site, metric)

    return [
        CurvePanel(site.name + (" (unseen)" if site.unseen else ""), label, at(site))
        for site in sites_with(book, tuple(lines), metric)
    ]


def mean_panels(book: CurveBook, metrics: Sequence[str]) -> list[CurvePanel]:
    """A panel per metric with the mean over federated sites."""

    def of(metric: str) -> Callable[[TableRow], pd.Series]:
        return lambda row: mean_curve(book, row, metric)

    return [CurvePanel(metric, "", of(metric)) for metric in metrics]


def draw_panels(
    panels: Sequence[CurvePanel],
    lines: Sequence[TableRow],
    styles: Mapping[str, LineStyle],
    share_y: bool,
    late: bool = False,
    width: float = WIDTH_INCHES,
    most_columns: int = MOST_COLUMNS,
) -> Figure:
    """Draw the panels.

    Args:
        panels: the axes, left to right, then down.
        lines: the rows drawn; those without values in any panel are left out of the legend.
        styles: per row name.
        share_y: True for one y axis for all panels.
        late: True for the range of ``late_range`` on the shared y axis.
        width: of three or more panels beside each other, in inches.
        most_columns: panels beside each other.
    """
    columns = min(len(panels), most_columns)
    grid_rows = math.ceil(len(panels) / columns)
    # few panels keep the width of thirds, so that one panel alone is not stretched over the page
    size = (width * columns / max(columns, 3), PANEL_HEIGHT_INCHES * grid_rows + 0.4)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(grid_rows, columns, squeeze=False, sharex=True, sharey=share_y)
        axes: list[Axes] = list(np.ravel(grid))
        # quiet lines last in the legend, though first on the paper
        lines = sorted(lines, key=lambda row: styles[row.name].quiet)
        drawn: dict[str, Line2D] = {}
        for index, (panel, axis) in enumerate(zip(panels, axes, strict=False)):
            _draw_panel(axis, panel, lines, styles, drawn)
            axis.set_ylabel(panel.y_label if index % columns == 0 else "")
            if index + columns >= len(panels):
                axis.set_xlabel("round")
                axis.tick_params(labelbottom=True)
        for axis in axes[len(panels) :]:
            axis.remove()
        if late and share_y:
            axes[0].set_ylim(late_range([p.curve(row) for p in panels for row in lines]))
        labels = {row.name: row.label for row in lines}
        add_legend(figure, {labels.get(name, OTHERS): line for name, line in drawn.items()})
        return figure


def _draw_panel(
    axis: Axes,
    panel: CurvePanel,
    lines: Sequence[TableRow],
    styles: Mapping[str, LineStyle],
    drawn: dict[str, Line2D],
) -> None:
    axis.set_title(panel.title)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    for row in lines:
        curve = panel.curve(row)
        if curve.empty:
            continue
        style = styles[row.name]
        (line,) = axis.plot(
            curve.index.to_numpy(),
            np.where(np.isfinite(curve.to_numpy()), curve.to_numpy(), np.nan),
            color=style.colour,
            linestyle=style.dashes,
            linewidth=QUIET_WIDTH if style.quiet else None,
            # a single value has no line to be seen by
            marker="." if style.quiet and len(curve) == 1 else style.marker,
            markerfacecolor=style.colour if style.filled else "white",
            zorder=1.5 if style.quiet else 2,
            # at most about eight markers on a line, or they hide it
            markevery=max(1, len(curve) // 8),
        )
        drawn.setdefault(OTHERS if style.quiet else row.name, line)


def draw_multiples(
    curves: Mapping[TableRow, pd.Series], reference: TableRow | None, label: str, decimals: int
) -> Figure:
    """Draw every strategy's curve over those of all others, on one pair of axes ranges.

    Args:
        curves: a non-empty curve per federated row, in the order of the panels.
        reference: the row drawn in every panel.
        label: of the y axis.
        decimals: of the value written in a panel.
    """
    grid_rows = math.ceil(len(curves) / MOST_COLUMNS)
    low, high = late_range(list(curves.values()))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, MULTIPLE_HEIGHT_INCHES * grid_rows + 0.5))
        figure.set_layout_engine("constrained")
        grid = figure.subplots(grid_rows, MOST_COLUMNS, squeeze=False, sharex=True, sharey=True)
        axes: list[Axes] = list(np.ravel(grid))
        for index, (row, axis) in enumerate(zip(curves, axes, strict=False)):
            _draw_strategy(axis, row, curves, reference, low, decimals)
            axis.set_ylim(low, high)
            axis.set_ylabel(label if index % MOST_COLUMNS == 0 else "")
            axis.tick_params(labelbottom=index + MOST_COLUMNS >= len(curves))
            # a label above an empty place would push the last row away
            axis.set_xlabel("round" if index // MOST_COLUMNS == grid_rows - 1 else "")
        for axis in axes[len(curves) :]:
            axis.remove()
        _strategy_legend(figure, curves, reference)
        return figure


def _draw_strategy(
    axis: Axes,
    row: TableRow,
    curves: Mapping[TableRow, pd.Series],
    reference: TableRow | None,
    low: float,
    decimals: int,
) -> None:
    axis.set_title(row.label, fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    rounds, values = _with_gaps([c for other, c in curves.items() if other not in (row, reference)])
    axis.plot(rounds, values, color=QUIET.colour, linewidth=QUIET_WIDTH, zorder=1.5)
    if reference is not None and reference in curves and reference != row:
        line = curves[reference]
        axis.plot(line.index, line, color=REFERENCE_COLOUR, linewidth=1.1, dashes=(3, 1.5))
    own = curves[row]
    axis.plot(own.index, own, color=_colour(row, reference), linewidth=1.9, zorder=3)
    last = float(own.iloc[-1])
    if len(own) == 1 and last >= low:
        axis.plot(own.index, own, color=_colour(row, reference), marker="o", zorder=3)
    # what the axis cuts off is written instead
    text = f"last {number(last, decimals)}" + (" (below the axis)" if last < low else "")
    text = f"diverged, {text}" if row.diverged else text
    axis.text(
        0.97,
        0.05,
        text,
        transform=axis.transAxes,
        ha="right",
        fontsize=7,
        color="#333333",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0},
        zorder=4,
    )


def _with_gaps(curves: Sequence[pd.Series]) -> tuple[list[float], list[float]]:
    """All curves as one line with gaps: one thing to draw instead of many."""
    rounds: list[float] = []
    values: list[float] = []
    for curve in curves:
        rounds += [*map(float, curve.index), math.nan]
        values += [*map(float, curve), math.nan]
    return rounds, values


def _colour(row: TableRow, reference: TableRow | None) -> str:
    if row == reference:
        return REFERENCE_COLOUR
    return PERSONAL_COLOUR if row.kind == "personal" else GLOBAL_COLOUR


def _strategy_legend(
    figure: Figure, curves: Mapping[TableRow, pd.Series], reference: TableRow | None
) -> None:
    entries = {"the panel's strategy": Line2D([], [], color=GLOBAL_COLOUR, linewidth=1.9)}
    if any(row.kind == "personal" for row in curves):
        personal = Line2D([], [], color=PERSONAL_COLOUR, linewidth=1.9)
        entries["the panel's strategy, personal models"] = personal
    if reference in curves and reference is not None:
        line = Line2D([], [], color=REFERENCE_COLOUR, linewidth=1.1, dashes=(3, 1.5))
        entries[reference.label] = line
    entries[OTHERS] = Line2D([], [], color=QUIET.colour, linewidth=QUIET_WIDTH)
    add_legend(figure, entries)
