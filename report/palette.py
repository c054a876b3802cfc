"""Colours, line styles and markers that stay apart for colour-blind readers and in grey print.

The colours are those of Okabe and Ito, "Color Universal Design" (2008), without the yellow, which
is too pale on white.
"""

from __future__ import annotations

from dataclasses import dataclass

from report.methods import Method


@dataclass(frozen=True)
class LineStyle:
    """How one method is drawn in every figure."""

    colour: str
    dashes: str
    marker: str


_FIXED = {
    "source": LineStyle("#7a7a7a", ":", "x"),
    "local": LineStyle("#E69F00", "--", "s"),
    "centralised": LineStyle("#222222", "-.", "D"),
}
_FEDERATED = (
    LineStyle("#0072B2", "-", "o"),
    LineStyle("#D55E00", "-", "^"),
    LineStyle("#009E73", "-", "v"),
    LineStyle("#CC79A7", "-", "P"),
    LineStyle("#56B4E9", "-", "*"),
)


def line_styles(methods: tuple[Method, ...]) -> dict[str, LineStyle]:
    """A style per method name; federated arms take the colours in their order, then repeat."""
    styles: dict[str, LineStyle] = {}
    federated = 0
    for method in methods:
        if method.kind in _FIXED:
            styles[method.name] = _FIXED[method.kind]
        else:
            styles[method.name] = _FEDERATED[federated % len(_FEDERATED)]
            federated += 1
    return styles
