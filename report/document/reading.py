"""Read a page's HTML into blocks.

Every word of the page is in some block, also of an element that is not known here; only navigation,
style sheets and grids of pictures are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from report.document.elements import SPACES, Element, parse_page
from report.document.records import (
    Block,
    Cell,
    Document,
    Facts,
    FigureBlock,
    Heading,
    Items,
    Paragraph,
    Part,
    Table,
    Text,
    Words,
)

STYLES = {"b": "bold", "strong": "bold", "em": "italic", "i": "italic", "code": "code"}
STYLES |= {"small": "small"}
INLINE = frozenset({*STYLES, "a", "br", "span", "sub", "sup"})
HEADINGS = {"h2": 2, "h3": 3, "summary": 3}
LEFT_OUT = frozenset({"nav", "style", "head"})


def read_document(html: str) -> Document:
    """The page's title and parts.

    Raises:
        ValueError: the page is not well-formed, or has no ``main`` or no ``h1``.
    """
    main = next(parse_page(html).all("main"), None)
    title = next(main.all("h1"), None) if main else None
    if main is None or title is None:
        raise ValueError("a page has one <main> with an <h1>")
    parts = []
    for child in main.children:
        if isinstance(child, Element):
            kind = " ".join(sorted(child.classes)) if child.tag == "section" else child.tag
            parts.append(Part(kind, tuple(_block(child, ""))))
    return Document(title.text, tuple(parts))


def _blocks(container: Element, kind: str = "") -> Iterator[Block]:
    """The blocks of a container; loose words between them are paragraphs."""
    loose: list[Element | str] = []
    for child in container.children:
        if isinstance(child, str) or child.tag in INLINE:
            loose.append(child)
            continue
        yield from _paragraph(loose, kind)
        loose = []
        yield from _block(child, kind)
    yield from _paragraph(loose, kind)


def _paragraph(children: Iterable[Element | str], kind: str) -> Iterator[Paragraph]:
    text = _tidy(_words(children))
    if text:
        yield Paragraph(text, kind)


def _block(element: Element, kind: str) -> Iterator[Block]:
    own = " ".join(sorted(element.classes)) or kind
    if element.tag in LEFT_OUT or element.tag == "h1":
        return
    if element.tag in HEADINGS:
        yield Heading(HEADINGS[element.tag], _text(element))
    elif element.tag in ("ul", "ol"):
        yield Items(tuple(_text(item) for item in element.all("li")), element.tag == "ol")
    elif element.tag == "dl":
        terms = map(_text, element.all("dt"))
        yield Facts(tuple(zip(terms, map(_text, element.all("dd")), strict=True)))
    elif element.tag == "table":
        yield from _table(element)
    elif element.tag == "figure" and "curves" in element.classes:
        yield _figure(element)
    else:
        yield from _blocks(element, own)


def _figure(element: Element) -> FigureBlock:
    picture = next(element.all("img"))
    caption = next(element.all("figcaption"))
    return FigureBlock(picture.attributes["src"], picture.attributes["alt"], _text(caption))


def _table(element: Element) -> Iterator[Table]:
    """A table of words and numbers; none for a grid of pictures."""
    if next(element.all("img"), None) is not None:
        return
    caption = next(element.all("caption"), None)
    lines = [tuple(_line(line)) for line in _filled(element)]
    yield Table(_text(caption) if caption else (), lines[0], tuple(lines[1:]))


def _filled(table: Element) -> list[list[Element]]:
    """The cells of every line; a cell that takes several lines stands in each of them."""
    lines: list[list[Element]] = []
    above: dict[int, tuple[Element, int]] = {}
    for row in table.all("tr"):
        own = list(row.all("th", "td"))
        line: list[Element] = []
        while own or len(line) in above:
            cell, left = above.pop(len(line), (None, 0))
            cell = own.pop(0) if cell is None else cell
            left = left or int(cell.attributes.get("rowspan", "1"))
            if left > 1:
                above[len(line)] = (cell, left - 1)
            line.append(cell)
        lines.append(line)
    return lines


def _line(cells: Iterable[Element]) -> Iterator[Cell]:
    for cell in cells:
        small = [word for word in _words(cell.children) if word.style == "small"]
        text = [word for word in _words(cell.children) if word.style != "small"]
        yield Cell(
            text=_tidy(text),
            small=_tidy(small),
            columns=int(cell.attributes.get("colspan", "1")),
            head=cell.tag == "th",
            unit=cell.attributes.get("data-unit", ""),
            wordy="text" in cell.classes,
            strong=bool(cell.classes & {"best", "strong"}),
        )


def _text(element: Element) -> Text:
    return _tidy(_words(element.children))


def _words(children: Iterable[Element | str], style: str = "") -> Iterator[Words]:
    for child in children:
        if isinstance(child, str):
            yield Words(child, style)
        elif child.tag == "br":
            yield Words(" ", style)
        else:
            inner = style or STYLES.get(child.tag, "")
            yield from _words(child.children, inner)


def _tidy(words: Iterable[Words]) -> Text:
    """White space as a browser shows it: single, and none at the ends."""
    found: list[Words] = []
    for word in words:
        text = SPACES.sub(" ", word.text)
        if not found or found[-1].text.endswith(" "):
            text = text.removeprefix(" ")
        if not text:
            continue
        if found and found[-1].style == word.style:
            found[-1] = Words(found[-1].text + text, word.style)
        else:
            found.append(Words(text, word.style))
    if found:
        last = found[-1]
        found[-1] = Words(last.text.rstrip(" "), last.style)
    return tuple(word for word in found if word.text)
