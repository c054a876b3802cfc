"""A page as a PDF on A4, set by the package ``typst``, whose wheel holds its compiler.

Words of the page reach the compiler as data in a file and are never read as markup.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

from report.document.figure_file import COMPUTED
from report.document.records import (
    Block,
    Cell,
    Document,
    Facts,
    FigureBlock,
    Heading,
    Items,
    Line,
    Paragraph,
    Part,
    Table,
    Text,
    Words,
)

TEMPLATE, DATA = "document.typ", "document.json"
FRONT, INSIGHT = "header", "summary"
ORDER = ("methods", "", "limitations", "references", "checklist", "appendix")
"""Parts in the order of a paper, by the class of their section; without one they are results."""
UNDATED = datetime(2000, 1, 1, tzinfo=UTC)
MISSING = (
    "report.pdf is not written: it is made with the package typst; install it with "
    "pip install 'fedi2i[pdf]'"
)


def typst_package() -> ModuleType | None:
    """The package, or None where it is not installed."""
    try:
        import typst
    except ImportError:
        return None
    package: ModuleType = typst
    return package


def as_pdf(document: Document, computed: bool, typst: ModuleType) -> bytes:
    """The document as PDF; the same bytes for the same page.

    Args:
        document: the page as blocks.
        computed: whether its data are computed, which every page then says at its foot.
        typst: the package.
    """
    pdf: bytes = _compiled(document, computed, typst, format="pdf", timestamp=UNDATED)
    return pdf


def as_pictures(document: Document, computed: bool, typst: ModuleType, ppi: float) -> list[bytes]:
    """Every page of the PDF as a PNG image, to be looked at."""
    pages = _compiled(document, computed, typst, format="png", ppi=ppi)
    return pages if isinstance(pages, list) else [pages]


def _compiled(document: Document, computed: bool, typst: ModuleType, **options: Any) -> Any:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        template = files("report.document") / "templates" / TEMPLATE
        (folder / TEMPLATE).write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
        pictures = {block.address: file for file, block in _pictures(document)}
        for address, file in pictures.items():
            (folder / file).write_bytes(base64.b64decode(address.partition(",")[2]))
        content = _content(document, computed, pictures)
        (folder / DATA).write_text(json.dumps(content), encoding="utf-8")
        # fonts of the machine are left aside: the same PDF everywhere
        return typst.compile(folder / TEMPLATE, root=folder, ignore_system_fonts=True, **options)


def _pictures(document: Document) -> Iterator[tuple[str, FigureBlock]]:
    for name, block in document.figures.items():
        ending = "svg" if block.address.startswith("data:image/svg") else "png"
        yield f"{name}.{ending}", block


def _content(document: Document, computed: bool, pictures: Mapping[str, str]) -> dict[str, Any]:
    front = [block for part in document.parts if part.kind == FRONT for block in part.blocks]
    return {
        "title": document.title,
        "footer": COMPUTED if computed else "",
        "front": [_block(block, pictures) for block in _insights_last(front)],
        "body": [_block(b, pictures) for part in in_order(document.parts) for b in part.blocks],
    }


def _insights_last(front: Sequence[Block]) -> list[Block]:
    """What the page says of itself, then what it found, under a heading of its own."""
    found = [b for b in front if isinstance(b, Paragraph) and INSIGHT in b.kind.split()]
    others = [b for b in front if b not in found]
    return [*others, Heading(2, (Words("Insights"),)), *found] if found else others


def in_order(parts: Iterable[Part]) -> list[Part]:
    """The sections in the order of a paper; one of an unknown kind is among the results."""

    def place(part: Part) -> int:
        return ORDER.index(part.kind if part.kind in ORDER else "")

    return sorted((part for part in parts if part.kind != FRONT), key=place)


def _block(block: Block, pictures: Mapping[str, str]) -> dict[str, Any]:
    """A block as the template takes it."""
    match block:
        case Heading():
            return {"kind": "heading", "level": block.level, "text": _words(block.text)}
        case Paragraph():
            return {"kind": "paragraph", "role": block.kind, "text": _words(block.text)}
        case Items():
            entries = [_words(entry) for entry in block.entries]
            return {"kind": "items", "ordered": block.ordered, "entries": entries}
        case Facts():
            pairs = [[_words(term), _words(fact)] for term, fact in block.entries]
            return {"kind": "facts", "entries": pairs}
        case Table():
            return _table(block)
        case FigureBlock():
            return {
                "kind": "figure",
                "file": pictures[block.address],
                "alt": block.alt,
                "caption": _words(block.caption),
            }


def _table(table: Table) -> dict[str, Any]:
    wordy, widths = table.of_words(), table.shares()
    return {
        "kind": "table",
        "caption": _words(table.caption),
        "widths": widths,
        "wordy": any(widths[1:]),
        "heads": list(_cells(table.heads, wordy)),
        "lines": [
            {"group": table.heads_group(line), "cells": list(_cells(line, wordy))}
            for line in table.lines
        ],
    }


def _cells(line: Line, wordy: list[bool]) -> Iterator[dict[str, Any]]:
    place = 0
    for cell in line:
        yield {
            "text": _words(cell.text),
            "small": _words(_small(cell)),
            "columns": cell.columns,
            "strong": cell.strong,
            "align": "left" if wordy[place] or cell.columns > 1 else "right",
        }
        place += cell.columns


def _small(cell: Cell) -> Text:
    return tuple(Words(word.text) for word in cell.small)


def _words(text: Text) -> list[dict[str, str]]:
    return [asdict(word) for word in text]
