"""What all drawn figures have in common: width, fonts and the way into the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from matplotlib.artist import Artist
from matplotlib.figure import Figure

WIDTH_INCHES = 11.6
HANDLE_INCHES = 0.5
LETTER_INCHES = 0.065

STYLE: Any = {
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


def add_legend(figure: Figure, entries: Mapping[str, Artist]) -> None:
    """A legend under the axes: one row, or as many columns as the figure is wide enough for."""
    widths = [HANDLE_INCHES + LETTER_INCHES * len(label) for label in entries]
    columns = len(entries)
    if sum(widths) > figure.get_figwidth():
        columns = int(figure.get_figwidth() / max(widths))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=max(1, columns),
        frameon=False,
    )


def as_address(figure: Figure) -> str:
    """The figure as a ``data:`` address of an SVG image."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()
