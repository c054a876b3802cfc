"""One small panel per federated strategy: where many lines on one set of axes would be a knot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from report.curve_figures import OTHERS, QUIET_WIDTH
from report.curve_range import late_range
from report.figure_style import STYLE, WIDTH_INCHES, add_legend, as_address
from report.methods import Method
from report.number_format import number
from report.palette import GLOBAL_COLOUR, PERSONAL_COLOUR, QUIET, REFERENCE_COLOUR

COLUMNS = 5
PANEL_HEIGHT_INCHES = 1.55


def draw_multiples(
    curves: Mapping[Method, pd.Series], reference: Method | None, label: str, decimals: int
) -> str:
    """Draw every strategy's curve over those of all others, on one pair of axes ranges.

    Args:
        curves: a non-empty curve per federated method, in the order of the panels.
        reference: the method drawn in every panel.
        label: of the y axis.
        decimals: of the value written in a panel.

    Returns:
        A ``data:`` address of an SVG image.
    """
    rows = math.ceil(len(curves) / COLUMNS)
    low, high = late_range(list(curves.values()))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, PANEL_HEIGHT_INCHES * rows + 0.5))
        figure.set_layout_engine("constrained")
        grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True)
        axes: list[Axes] = list(np.ravel(grid))
        for index, (method, axis) in enumerate(zip(curves, axes, strict=False)):
            _draw(axis, method, curves, reference, low, decimals)
            axis.set_ylim(low, high)
            axis.set_ylabel(label if index % COLUMNS == 0 else "")
            axis.tick_params(labelbottom=index + COLUMNS >= len(curves))
            # a label above an empty place would push the last row away
            axis.set_xlabel("round" if index // COLUMNS == rows - 1 else "")
        for axis in axes[len(curves) :]:
            axis.remove()
        _legend(figure, curves, reference)
        return as_address(figure)


def _draw(
    axis: Axes,
    method: Method,
    curves: Mapping[Method, pd.Series],
    reference: Method | None,
    low: float,
    decimals: int,
) -> None:
    axis.set_title(method.label, fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    rounds, values = _joined([c for other, c in curves.items() if other not in (method, reference)])
    axis.plot(rounds, values, color=QUIET.colour, linewidth=QUIET_WIDTH, zorder=1.5)
    if reference is not None and reference in curves and reference != method:
        line = curves[reference]
        axis.plot(line.index, line, color=REFERENCE_COLOUR, linewidth=1.1, dashes=(3, 1.5))
    own = curves[method]
    axis.plot(own.index, own, color=_colour(method, reference), linewidth=1.9, zorder=3)
    last = float(own.iloc[-1])
    if len(own) == 1 and last >= low:
        axis.plot(own.index, own, color=_colour(method, reference), marker="o", zorder=3)
    # what the axis cuts off is written instead
    text = f"last {number(last, decimals)}" + (" (below the axis)" if last < low else "")
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


def _joined(curves: Sequence[pd.Series]) -> tuple[list[float], list[float]]:
    """All curves as one line with gaps: one thing to draw instead of many."""
    rounds: list[float] = []
    values: list[float] = []
    for curve in curves:
        rounds += [*map(float, curve.index), math.nan]
        values += [*map(float, curve), math.nan]
    return rounds, values


def _colour(method: Method, reference: Method | None) -> str:
    if method == reference:
        return REFERENCE_COLOUR
    return PERSONAL_COLOUR if method.kind == "personal" else GLOBAL_COLOUR


def _legend(figure: Figure, curves: Mapping[Method, pd.Series], reference: Method | None) -> None:
    entries = {"the panel's strategy": Line2D([], [], color=GLOBAL_COLOUR, linewidth=1.9)}
    if any(method.kind == "personal" for method in curves):
        personal = Line2D([], [], color=PERSONAL_COLOUR, linewidth=1.9)
        entries["the panel's strategy, personal models"] = personal
    if reference in curves and reference is not None:
        line = Line2D([], [], color=REFERENCE_COLOUR, linewidth=1.1, dashes=(3, 1.5))
        entries[reference.label] = line
    entries[OTHERS] = Line2D([], [], color=QUIET.colour, linewidth=QUIET_WIDTH)
    add_legend(figure, entries)
