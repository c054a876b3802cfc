"""Read a table as spreadsheets and statistics programs write it: a text of cells, row by row."""

from __future__ import annotations

import csv
import io
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedi2i.errors import DataError

logger = logging.getLogger(__name__)

MISSING = frozenset({"n/a", "na", "nan", "null", "none", "-", "#n/a"})
"""What programs write into a cell without a value; upper and lower case are alike."""

_SEPARATORS = (",", ";", "\t")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SEPARATOR_LINE = re.compile(r"\"?sep=(.)\"?[;,\s]*", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        number: its line in the file, the first line being 1.
        cells: column to text, without spaces at its ends; "" where there is no value.
    """

    number: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        path: the file.
        columns: the columns' names in order.
        rows: the rows that hold anything.
        separator: what stands between cells.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    separator: str


def read_table_file(path: Path, names: Mapping[str, str]) -> Table:
    """Read a text of cells between commas, semicolons or tabs.

    Excel's first line ``sep=;`` is honoured, columns without name and content are passed over, and
    texts in UTF-8, UTF-16 and Windows-1252 are read. Names of columns are taken in lower case.

    Args:
        path: the file.
        names: columns that are called otherwise here, by their name in lower case with ``_`` in the
            place of spaces and signs.

    Raises:
        DataError: the file is missing or no such text, a column has no name or one that stands
            twice, or a row has too few or too many cells.
    """
    text = _decoded(path)
    before = 0
    first, _, rest = text.partition("\n")
    told = _SEPARATOR_LINE.fullmatch(first)
    if told:
        text, before = rest, 1
    separator = told.group(1) if told else _likely_separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        header = [column_name(cell, names) for cell in next(reader, [])]
        lines = [(reader.line_num + before, row) for row in reader]
    except csv.Error as error:  # a cell longer than any table's, as of another kind of file
        raise DataError(f"{path}: is no table of cells ({error}); name another file") from error
    filled = [(number, [cell.strip() for cell in row]) for number, row in lines if any(row)]
    filled = [(number, row) for number, row in filled if any(row)]
    columns = _used_columns(path, header, filled)
    _refuse_twice(path, [name for name in columns if name])
    rows = tuple(_row(path, number, row, columns) for number, row in filled)
    return Table(path, tuple(name for name in columns if name), rows, separator)


def without_missing(text: str) -> str:
    """The text of a cell, "" if it stands for a missing value."""
    return "" if text.lower() in MISSING else text


def finite(text: str, what: str) -> float:
    """The number in a cell.

    Args:
        text: of the cell.
        what: the file, row, column and text, for the message.

    Raises:
        DataError: it is no number, or not a finite one: JSON has no word for others.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{what} is not a number; correct the cell, or write n/a")
    return number


def column_name(cell: str, names: Mapping[str, str]) -> str:
    """What a column is called here: see ``names`` of `read_table_file`, else in lower case."""
    plain = re.sub(r"[^a-z0-9]+", "_", cell.lower()).strip("_")
    return names.get(plain, cell.strip().lower())


def _decoded(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: no such table; correct the path")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise DataError(f"{path}: is an Excel workbook; save it as 'CSV UTF-8'")
    try:
        return content.decode(_encoding(content, path))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is neither UTF-8, UTF-16 nor Windows-1252 text ({error.reason}); save it as "
            "'CSV UTF-8'"
        ) from error


def _encoding(content: bytes, path: Path) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if b"\0" in content[:2]:
        return "utf-16-be" if content[0] == 0 else "utf-16-le"
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError:
        logger.warning(
            "%s: is not UTF-8 and is read as Windows-1252; look at names with letters like é", path
        )
        return "cp1252"
    return "utf-8-sig"


def _likely_separator(text: str) -> str:
    """The separator that the header has most of; those inside quotes do not count."""
    header = _QUOTED.sub("", text).split("\n", 1)[0]
    return max(_SEPARATORS, key=header.count)


def _used_columns(path: Path, header: list[str], rows: list[tuple[int, list[str]]]) -> list[str]:
    """The header without empty columns at its end; a column with content needs a name."""
    for number, row in rows:
        for place, cell in enumerate(row):
            if cell and (place >= len(header) or not header[place]):
                if place >= len(header):
                    break  # a row with too many cells, which is named later
                raise DataError(
                    f"{path}: row {number}: '{cell}' stands in column {place + 1}, which has no "
                    "name; name the column or empty it"
                )
    return header


def _refuse_twice(path: Path, columns: list[str]) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DataError(f"{path}: column '{twice[0]}' appears twice; rename or remove one")


def _row(path: Path, number: int, row: list[str], columns: list[str]) -> Row:
    cells = row[: len(columns)]
    left = [cell for cell in row[len(columns) :] if cell]
    if left or len(cells) < len([name for name in columns if name]):
        count = sum(bool(name) for name in columns)
        raise DataError(
            f"{path}: row {number}: {len(row)} cells under {count} columns; correct the separators"
        )
    return Row(number, {name: cell for name, cell in zip(columns, cells, strict=False) if name})
