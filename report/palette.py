"""Colours, line styles and markers that stay apart for colour-blind readers and in grey print.

The colours are those of Okabe and Ito, "Color Universal Design" (2008), without the yellow, which
is too pale on white.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from report.methods import Method


@dataclass(frozen=True)
class LineStyle:
    """How one method is drawn in every figure.

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
    "source": LineStyle("#7a7a7a", ":", "x"),
    "local": LineStyle("#E69F00", "--", "s"),
    "centralised": LineStyle("#222222", "-.", "D"),
}
_FEDERATED = (
    (REFERENCE_COLOUR, "o"),
    (GLOBAL_COLOUR, "^"),
    (PERSONAL_COLOUR, "v"),
    ("#CC79A7", "P"),
    ("#56B4E9", "*"),
)


def line_styles(methods: Iterable[Method], named: Iterable[Method]) -> dict[str, LineStyle]:
    """A style per method name.

    Args:
        methods: every method that is drawn.
        named: those with a colour of their own; federated ones take the colours in their order,
            then repeat. All others stay in the background.
    """
    named = tuple(named)
    federated = [method.name for method in named if method.is_federated]
    styles = {}
    for method in methods:
        if method not in named:
            styles[method.name] = QUIET
        elif method.kind in _FIXED:
            styles[method.name] = _FIXED[method.kind]
        else:
            colour, marker = _FEDERATED[federated.index(method.name) % len(_FEDERATED)]
            styles[method.name] = LineStyle(colour, "-", marker, method.kind != "personal")
    return styles
