"""Build HTML by function calls; text is always escaped, so no name in a run can break the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_VOID = {"img", "meta", "br", "hr"}


class Markup(str):
    """Text that is HTML already and is not escaped again."""


def tag(name: str, /, *children: str, **attributes: str) -> Markup:
    """One element; ``class_`` loses the underscore that Python needs.

    Args:
        name: the element.
        children: text (escaped) or Markup (kept).
        attributes: escaped; empty values are left out, except ``alt``.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value or key == "alt"
    )
    if name in _VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{joined(children)}</{name}>")


def joined(children: Iterable[str], between: str = "") -> Markup:
    """Children one after the other, plain text escaped."""
    return Markup(
        between.join(
            child if isinstance(child, Markup) else escape(child, quote=False) for child in children
        )
    )


def table(
    caption: str,
    header: Sequence[str],
    body: Iterable[Markup],
    class_: str = "",
    id_: str = "",
) -> Markup:
    """A table that scrolls sideways on its own when it is wider than the page.

    Args:
        caption: shown above.
        header: cells of the header row, text or ``th`` elements.
        body: rows, each a ``tr``.
        class_: of the table.
        id_: anchor.
    """
    cells = (
        cell
        if isinstance(cell, Markup) and cell.startswith("<th")
        else tag("th", cell, scope="col")
        for cell in header
    )
    content = joined(
        [
            tag("caption", caption) if caption else Markup(""),
            tag("thead", tag("tr", *cells)),
            tag("tbody", *body),
        ]
    )
    return tag("div", tag("table", content, class_=class_, id=id_), class_="wide")


def row(head: str, *cells: str, class_: str = "") -> Markup:
    """A table row whose first cell names it; cells are text or ``td`` elements."""
    filled = (
        cell if isinstance(cell, Markup) and cell.startswith("<td") else tag("td", cell)
        for cell in cells
    )
    return tag("tr", tag("th", head, scope="row"), *filled, class_=class_)


def group_row(title: str, columns: int) -> Markup:
    """A heading between the rows of a table, as wide as the table."""
    return tag("tr", tag("th", title, scope="colgroup", colspan=str(columns)), class_="group")


def foldable(title: str, *children: str) -> Markup:
    """A part that opens on a click, without scripts."""
    return tag("details", tag("summary", title), *children)


def note(*children: str) -> Markup:
    """A paragraph of small print."""
    return tag("p", *children, class_="note")
