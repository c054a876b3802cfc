"""Read a table from a text or from an Excel workbook, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError
from fedi2i.typed_config import nearest
from partitions.layouts.table_file import Row, Table, column_name, read_table_file
from partitions.scans.header import reason_of

_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""The first bytes of workbooks, ``.xlsx`` and the older ``.xls``."""


def read_table(path: Path, names: Mapping[str, str], sheet: str | None = None) -> Table:
    """Read a text of cells, see ``read_table_file``, or one sheet of a workbook.

    What kind of file it is, is decided by its first bytes and not by its name.

    Args:
        path: the file.
        names: columns that are called otherwise here, as for ``read_table_file``.
        sheet: the sheet of a workbook; None for its first. A text has no sheets.

    Raises:
        DataError: as ``read_table_file``; the workbook is damaged, has no such sheet, or the
            package that reads it is not installed.
    """
    if not _is_workbook(path):
        return read_table_file(path, names)
    frame = _sheet(path, sheet)
    columns = [column_name(str(cell), names) for cell in frame.columns]
    used = [place for place, name in enumerate(columns) if name and not name.startswith("unnamed")]
    rows = []
    for number, cells in enumerate(frame.itertuples(index=False), start=2):
        texts = [str(cell).strip() for cell in cells]
        if any(texts):
            rows.append(Row(number, {columns[place]: texts[place] for place in used}))
    return Table(path, tuple(columns[place] for place in used), tuple(rows), ",")


def _is_workbook(path: Path) -> bool:
    if not path.is_file():
        return False  # 'read_table_file' says so
    with path.open("rb") as stream:
        return stream.read(4) in _WORKBOOKS


def _sheet(path: Path, sheet: str | None) -> Any:
    """One sheet as a pandas table of texts; empty cells are ""."""
    import pandas

    try:
        sheets = pandas.read_excel(
            path, sheet_name=None, engine="calamine", dtype=str, keep_default_na=False
        )
    except ImportError as error:
        raise DataError(
            f"{path}: is an Excel workbook, which the package python-calamine reads; pip install "
            "'fedi2i[tables]', or save it as 'CSV UTF-8' and give that"
        ) from error
    except Exception as error:  # the package raises many unrelated types for a damaged file
        raise DataError(
            f"{path}: is damaged or no workbook ({reason_of(error)}); copy it again"
        ) from error
    if sheet is not None and sheet not in sheets:
        raise DataError(f"{path}: has no sheet '{sheet}'; {nearest(sheet, map(str, sheets))}")
    return sheets[sheet or next(iter(sheets))].fillna("")
