"""A drawn figure as PNG and SVG, which say of computed data that they are computed."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from report.figures.style import STYLE, as_png, as_svg

COMPUTED = "Computed data, not acquired"
DOTS_PER_INCH = 200


def figure_files(figure: Figure, computed: bool) -> tuple[bytes, bytes]:
    """PNG and SVG; the same bytes for the same figure.

    Args:
        figure: as it stands on the page; afterwards it bears the words on computed data, too.
        computed: whether it shows computed data.
    """
    if computed:
        _add_line_below(figure, COMPUTED)
    return as_png(figure, DOTS_PER_INCH), as_svg(figure)


def _add_line_below(figure: Figure, text: str) -> None:
    """Make room of one line at the bottom and write into it."""
    line = 2 * STYLE["font.size"] / 72
    width, height = figure.get_size_inches()
    engine = figure.get_layout_engine()
    figure.set_size_inches(width, height + line)
    share = line / (height + line)
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, share, 1, 1 - share))
    figure.text(0.995, 0.3 * share, text, ha="right", va="bottom", fontsize=7, color="#57606a")
