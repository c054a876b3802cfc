"""Draw curves over rounds as small panels on shared axes; one SVG per figure."""

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

from report.curve_range import late_range
from report.curves import CurveBook, mean_curve, site_curve, sites_with
from report.figure_style import STYLE, WIDTH_INCHES, add_legend, as_address
from report.methods import Method
from report.palette import LineStyle
from report.records import Site

PANEL_HEIGHT_INCHES = 2.35
MOST_COLUMNS = 5
QUIET_WIDTH = 0.9
OTHERS = "other federated arms"
MEAN_TITLE = "mean over federated sites"


@dataclass(frozen=True)
class CurvePanel:
    """One set of axes: a title, a y label and a line per method."""

    title: str
    y_label: str
    curve: Callable[[Method], pd.Series]


def validation_panels(
    book: CurveBook, methods: Sequence[Method], metric: str, label: str
) -> list[CurvePanel]:
    """A panel per site that recorded the metric, and one with their mean."""
    mean = CurvePanel(MEAN_TITLE, label, lambda method: mean_curve(book, method, metric))
    return [*panels_per_site(book, methods, metric, label), mean]


def panels_per_site(
    book: CurveBook, methods: Sequence[Method], metric: str, label: str
) -> list[CurvePanel]:
    """A panel per site that recorded the metric."""

    def at(site: Site) -> Callable[[Method], pd.Series]:
        return lambda method: site_curve(book, method, site, metric)

    return [
        CurvePanel(site.name + (" (unseen)" if site.unseen else ""), label, at(site))
        for site in sites_with(book, tuple(methods), metric)
    ]


def mean_panels(book: CurveBook, metrics: Sequence[str]) -> list[CurvePanel]:
    """A panel per metric with the mean over federated sites."""

    def of(metric: str) -> Callable[[Method], pd.Series]:
        return lambda method: mean_curve(book, method, metric)

    return [CurvePanel(metric, "", of(metric)) for metric in metrics]


def draw_panels(
    panels: Sequence[CurvePanel],
    methods: Sequence[Method],
    styles: Mapping[str, LineStyle],
    share_y: bool,
    late: bool = False,
) -> str:
    """Draw the panels.

    Args:
        panels: the axes, left to right, then down.
        methods: the lines; those without values in any panel are left out of the legend.
        styles: per method name.
        share_y: True for one y axis for all panels.
        late: True for the range of ``late_range`` on the shared y axis.

    Returns:
        A ``data:`` address of an SVG image.
    """
    columns = min(len(panels), MOST_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    # few panels keep the width of thirds, so that one panel alone is not stretched over the page
    size = (WIDTH_INCHES * columns / max(columns, 3), PANEL_HEIGHT_INCHES * rows + 0.4)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=share_y)
        axes: list[Axes] = list(np.ravel(grid))
        # quiet lines last in the legend, though first on the paper
        methods = sorted(methods, key=lambda method: styles[method.name].quiet)
        drawn: dict[str, Line2D] = {}
        for index, (panel, axis) in enumerate(zip(panels, axes, strict=False)):
            _draw_panel(axis, panel, methods, styles, drawn)
            axis.set_ylabel(panel.y_label if index % columns == 0 else "")
            if index + columns >= len(panels):
                axis.set_xlabel("round")
                axis.tick_params(labelbottom=True)
        for axis in axes[len(panels) :]:
            axis.remove()
        if late and share_y:
            axes[0].set_ylim(late_range([p.curve(method) for p in panels for method in methods]))
        labels = {method.name: method.label for method in methods}
        add_legend(figure, {labels.get(name, OTHERS): line for name, line in drawn.items()})
        return as_address(figure)


def _draw_panel(
    axis: Axes,
    panel: CurvePanel,
    methods: Sequence[Method],
    styles: Mapping[str, LineStyle],
    drawn: dict[str, Line2D],
) -> None:
    axis.set_title(panel.title)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    for method in methods:
        curve = panel.curve(method)
        if curve.empty:
            continue
        style = styles[method.name]
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
        drawn.setdefault(OTHERS if style.quiet else method.name, line)
