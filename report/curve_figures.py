"""Draw curves over rounds as small panels on shared axes; one SVG per figure."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from report.curves import mean_curve, site_curve, sites_with
from report.methods import Method
from report.palette import LineStyle
from report.records import Run

WIDTH_INCHES = 11.6
PANEL_HEIGHT_INCHES = 2.35
MOST_COLUMNS = 5
MEAN_TITLE = "mean over federated sites"


@dataclass(frozen=True)
class CurvePanel:
    """One set of axes: a title, a y label and a line per method."""

    title: str
    y_label: str
    curve: Callable[[Method], pd.Series]


def validation_panels(run: Run, metric: str, label: str) -> list[CurvePanel]:
    """A panel per site that recorded the metric, and one with their mean."""

    def at(name: str) -> Callable[[Method], pd.Series]:
        site = next(site for site in run.about.sites if site.name == name)
        return lambda method: site_curve(run, method, site, metric)

    panels = [
        CurvePanel(site.name + (" (unseen)" if site.unseen else ""), label, at(site.name))
        for site in sites_with(run, metric)
    ]
    mean = CurvePanel(MEAN_TITLE, label, lambda method: mean_curve(run, method, metric))
    return [*panels, mean]


def mean_panels(run: Run, metrics: Sequence[str]) -> list[CurvePanel]:
    """A panel per metric with the mean over federated sites."""

    def of(metric: str) -> Callable[[Method], pd.Series]:
        return lambda method: mean_curve(run, method, metric)

    return [CurvePanel(metric, "", of(metric)) for metric in metrics]


def draw_panels(
    panels: Sequence[CurvePanel],
    methods: Sequence[Method],
    styles: Mapping[str, LineStyle],
    share_y: bool,
) -> str:
    """Draw the panels.

    Args:
        panels: the axes, left to right, then down.
        methods: the lines; those without values in any panel are left out of the legend.
        styles: per method name.
        share_y: True for one y axis for all panels.

    Returns:
        A ``data:`` address of an SVG image.
    """
    columns = min(len(panels), MOST_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    # few panels keep the width of thirds, so that one panel alone is not stretched over the page
    size = (WIDTH_INCHES * columns / max(columns, 3), PANEL_HEIGHT_INCHES * rows + 0.4)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=share_y)
        axes: list[Axes] = list(np.ravel(grid))
        drawn: dict[str, Line2D] = {}
        for index, (panel, axis) in enumerate(zip(panels, axes, strict=False)):
            _draw_panel(axis, panel, methods, styles, drawn)
            axis.set_ylabel(panel.y_label if index % columns == 0 else "")
            if index + columns >= len(panels):
                axis.set_xlabel("round")
                axis.tick_params(labelbottom=True)
        for axis in axes[len(panels) :]:
            axis.remove()
        labels = {method.name: method.label for method in methods}
        figure.legend(
            list(drawn.values()),
            [labels[name] for name in drawn],
            loc="outside lower center",
            ncols=max(len(drawn), 1),
            frameon=False,
        )
        return _as_address(figure)


def _draw_panel(
    axis: Axes,
    panel: CurvePanel,
    methods: Sequence[Method],
    styles: Mapping[str, LineStyle],
    drawn: dict[str, Line2D],
) -> None:
    axis.set_title(panel.title)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
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
            marker=style.marker,
            # at most about eight markers on a line, or they hide it
            markevery=max(1, len(curve) // 8),
        )
        drawn.setdefault(method.name, line)


def _as_address(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()


_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 3.8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    # glyphs as outlines and fixed ids: the same file on every machine, without its fonts
    "svg.fonttype": "path",
    "svg.hashsalt": "report",
}
