"""What all figures have in common: width, fonts, line styles and the way into the page.

Lines stay apart for colour-blind readers and in grey print. Their colours are those of Okabe and
Ito, "Color Universal Design" (2008), without the yellow, which is too pale on white.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from report.numbers.rows import TableRow

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
    # a label with dollar signs is text, not a formula
    "text.parse_math": False,
    # glyphs as outlines and fixed ids: the same file on every machine, without its fonts
    "svg.fonttype": "path",
    "svg.hashsalt": "report",
}


@dataclass(frozen=True)
class LineStyle:
    """How one table row is drawn in every figure.

    Attributes:
        colour: of line and marker.
        dashes: Matplotlib's name of the dash pattern.
        marker: Matplotlib's name of the marker.
        filled: whether markers are filled; personal models have open ones.
        quiet: whether the line stays in the background, without a name of its own.
    """

    colour: str
    dashes: str
    marker: str
    filled: bool = True
    quiet: bool = False


QUIET = LineStyle("#c3c9d0", "-", "", quiet=True)
GLOBAL_COLOUR, PERSONAL_COLOUR, REFERENCE_COLOUR = "#D55E00", "#009E73", "#0072B2"

_FIXED = {
    "local": LineStyle("#E69F00", "--", "s"),
    "centralised": LineStyle("#222222", "-.", "D"),
    "regression": LineStyle("#7B3294", "--", "X"),
    "ensemble": LineStyle("#8C6D31", ":", "h"),
}
_FEDERATED = (
    (REFERENCE_COLOUR, "o"),
    (GLOBAL_COLOUR, "^"),
    (PERSONAL_COLOUR, "v"),
    ("#CC79A7", "P"),
    ("#56B4E9", "*"),
)


def line_styles(rows: Iterable[TableRow], named: Iterable[TableRow]) -> dict[str, LineStyle]:
    """A style per row name.

    Args:
        rows: every row that is drawn.
        named: those with a colour of their own; federated ones take the colours in their order,
            then repeat. All others stay in the background.
    """
    named = tuple(named)
    federated = [row.name for row in named if row.is_federated]
    styles = {}
    for row in rows:
        if row not in named:
            styles[row.name] = QUIET
        elif row.kind in _FIXED:
            styles[row.name] = _FIXED[row.kind]
        else:
            colour, marker = _FEDERATED[federated.index(row.name) % len(_FEDERATED)]
            styles[row.name] = LineStyle(colour, "-", marker, row.kind != "personal")
    return styles


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


_DRAWN: ContextVar[dict[str, Figure] | None] = ContextVar("drawn", default=None)


@contextmanager
def drawn_figures() -> Iterator[Mapping[str, Figure]]:
    """Every figure that ``as_address`` gets meanwhile, by its address.

    So whoever writes a page's figures as files finds all of them, without the page naming any.
    """
    drawn: dict[str, Figure] = {}
    token = _DRAWN.set(drawn)
    try:
        yield drawn
    finally:
        _DRAWN.reset(token)


def as_address(figure: Figure) -> str:
    """The figure as a ``data:`` address of an SVG image."""
    address = "data:image/svg+xml;base64," + base64.b64encode(as_svg(figure)).decode()
    drawn = _DRAWN.get()
    if drawn is not None:
        drawn[address] = figure
    return address


def as_svg(figure: Figure) -> bytes:
    """The figure as an SVG image, without the day on which it was drawn."""
    return _saved(figure, format="svg", metadata={"Date": None})


def as_png(figure: Figure, dpi: int) -> bytes:
    """The figure as a PNG image on white, without the version of the library that wrote it."""
    return _saved(
        figure, format="png", dpi=dpi, metadata={"Software": None}, pil_kwargs={"optimize": True}
    )


def _saved(figure: Figure, **options: Any) -> bytes:
    stream = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(stream, **options)
    return stream.getvalue()
