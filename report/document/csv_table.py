"""A table as CSV, for programs: a number a cell where the page has several."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

from report.document.records import Cell, Line, Table, plain
from report.number_format import NONE

MINUS = "\N{MINUS SIGN}"
_NUMBER = r"([+\u2212-]?(?:\d[\d\u2009]*(?:\.\d+)?|∞))"
_SPREAD = re.compile(rf"{_NUMBER}(?: ± {_NUMBER})?")
_INTERVAL = re.compile(rf"\[{_NUMBER}, {_NUMBER}\]")
SHAPES = ((_SPREAD, ("", " ±")), (_INTERVAL, (" low", " high")))
"""What all cells of a column look like, and what its parts' heads end with."""
_FORMULA = re.compile(r"[=@\t\r]|[+-](?!inf$|[\d.,\u2009]+(?:e[+-]?\d+)?(?: \D*)?$)")
"""How a text begins that a spreadsheet would compute; a number with its sign and unit is none."""


def as_csv(table: Table) -> str:
    """Heads and lines with commas; the heading of a group is the first column of its lines.

    ``20.1 ± 0.4`` and ``[0.1, 0.5]`` are two columns each, minus signs are hyphens, a dash for "no
    value" is an empty cell. Before a text that a spreadsheet would compute stands an apostrophe.
    """
    grouped = any(table.heads_group(line) for line in table.lines)
    columns = [list(column) for column in zip(*_squares(table), strict=True)]
    split = [part for column in columns for part in _parts(column)]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    rows = zip(*split, strict=True)
    groups = _groups(table)
    for group, row in zip(groups, rows, strict=True):
        writer.writerow(map(_inert, [group, *row] if grouped else row))
    return stream.getvalue()


def _groups(table: Table) -> Iterator[str]:
    yield "group"
    group = ""
    for line in table.lines:
        if table.heads_group(line):
            group = line[0].plain
        else:
            yield group


def _squares(table: Table) -> Iterator[list[str]]:
    """The lines without group headings, each as long as the table is wide."""
    for line in (table.heads, *table.lines):
        if not table.heads_group(line):
            yield list(_cells(line, table.columns))


def _cells(line: Line, columns: int) -> Iterator[str]:
    cells = [text for cell in line for text in (_said(cell), *[""] * (cell.columns - 1))]
    yield from cells + [""] * (columns - len(cells))


def _said(cell: Cell) -> str:
    return "" if plain(cell.text) == NONE and not cell.small else cell.plain


def _parts(column: Sequence[str]) -> Iterator[list[str]]:
    """One column, or those that its numbers fall apart into."""
    head, *cells = column
    for shape, endings in SHAPES:
        found = [shape.fullmatch(text) for text in cells]
        fitting = [match for match in found if match]
        # a word ("diverged") among numbers stays in the first part
        if len(fitting) > sum(bool(text) for text in cells) / 2:
            yield from _divided(head, cells, shape, endings)
            return
    yield list(column)


def _divided(
    head: str, cells: Sequence[str], shape: re.Pattern[str], endings: tuple[str, str]
) -> Iterator[list[str]]:
    for place, ending in enumerate(endings):
        part = [f"{head}{ending}"]
        for text in cells:
            match = shape.fullmatch(text)
            word = text if place == 0 else ""
            part.append(_number(match[place + 1] or "") if match else word)
        if place == 0 or any(part[1:]):
            yield part


def _inert(text: str) -> str:
    """Names come from a run's files, and a spreadsheet computes what begins as a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def _number(text: str) -> str:
    plain_text = text.replace(MINUS, "-").replace("\u2009", "").removeprefix("+")
    return plain_text.replace("∞", "inf")
