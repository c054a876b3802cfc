"""Read a table of scans: one row per subject, with the row number for every complaint."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError
from fedi2i.site_names import check_site_name, check_site_names
from fedi2i.typed_config import nearest
from partitions.manifest import SPLITS

_ALIASES = {"case_id": "subject", "lesion": "lesion_mask"}
_SPECIAL = ("subject", "patient_id", "site", "split", "mask", "lesion_mask")
_NUMBERS = ("age", "field_strength")
_NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class TableRow:
    """One subject as the table gives it; paths are resolved and exist.

    Attributes:
        number: line in the file, the header being line 1.
        subject: identifier.
        patient: identifier of the person; the subject's where the table has no such column.
        site: site name.
        split: ``train``, ``val``, ``test``, or None where the table leaves it to be drawn.
        files: sequence name to file.
        mask: head or brain mask.
        lesion_mask: lesion region.
        metadata: every other filled cell; ``age`` and ``field_strength`` as numbers.
    """

    number: int
    subject: str
    patient: str
    site: str
    split: str | None
    files: dict[str, Path]
    mask: Path | None
    lesion_mask: Path | None
    metadata: dict[str, Any]


def read_table(path: Path) -> tuple[TableRow, ...]:
    """Read and check all rows; separators comma, semicolon and tab are recognised.

    A column whose filled cells end in ``.nii`` or ``.nii.gz`` is a sequence; what is neither that
    nor a column with a meaning of its own is metadata. Paths start at the table's folder.

    Raises:
        DataError: naming the row and what is wrong with it.
    """
    columns, cells = _read_cells(path)
    sequences = _sequence_columns(columns, cells, path)
    rows = tuple(_row(path, number, row, sequences) for number, row in cells)
    check_site_names((row.site for row in rows), str(path))
    first: dict[str, int] = {}
    for row in rows:
        if row.subject in first:
            raise DataError(
                f"{path}: row {row.number}: subject '{row.subject}' already stands in row "
                f"{first[row.subject]}; keep one row per subject"
            )
        first[row.subject] = row.number
    return rows


def _read_cells(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    if not path.is_file():
        raise DataError(f"{path}: no such table; correct the path")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as UTF-8 text ({error}); save it as CSV"
        ) from error
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    columns = [_ALIASES.get(name.strip(), name.strip()) for name in next(reader, [])]
    _check_columns(path, columns)
    cells = []
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(columns):
            raise DataError(
                f"{path}: row {reader.line_num}: {len(row)} cells under {len(columns)} columns; "
                "correct the separators"
            )
        values = (cell.strip() for cell in row)
        cells.append((reader.line_num, dict(zip(columns, values, strict=True))))
    if not cells:
        raise DataError(f"{path}: holds no rows; add one row per subject")
    return columns, cells


def _check_columns(path: Path, columns: list[str]) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DataError(f"{path}: column '{twice[0]}' stands twice; rename or remove one")
    for needed in ("subject", "site"):
        if needed not in columns:
            hint = nearest(needed, columns)
            raise DataError(f"{path}: no column '{needed}' (or 'case_id' for 'subject'); {hint}")


def _sequence_columns(
    columns: list[str], cells: list[tuple[int, dict[str, str]]], path: Path
) -> tuple[str, ...]:
    found = []
    for name in columns:
        filled = [(number, row[name]) for number, row in cells if row[name]]
        scans = [value.lower().endswith(_NIFTI) for _, value in filled]
        if name in _SPECIAL or not any(scans):
            continue
        if not all(scans):
            number, value = filled[scans.index(False)]
            raise DataError(
                f"{path}: row {number}: '{value}' in the sequence column '{name}' is not a .nii or "
                ".nii.gz file; correct it or leave the cell empty"
            )
        found.append(name)
    if len(found) < 2:
        raise DataError(
            f"{path}: found {len(found)} sequence columns, two are needed; fill one column per "
            "sequence with .nii or .nii.gz paths"
        )
    return tuple(found)


def _row(path: Path, number: int, row: dict[str, str], sequences: tuple[str, ...]) -> TableRow:
    where = f"{path}: row {number}"
    if not row["subject"]:
        raise DataError(f"{where}: the subject is empty; name it")
    check_site_name(row["site"], where)
    split = row.get("split") or None
    if split is not None and split not in SPLITS:
        raise DataError(f"{where}: unknown split '{split}'; {nearest(split, SPLITS)}")
    files = {name: _scan(path, number, row[name]) for name in sequences if row[name]}
    masks = {
        name: _scan(path, number, row[name]) if row.get(name) else None
        for name in ("mask", "lesion_mask")
    }
    plain = {
        name: value
        for name, value in row.items()
        if value and name not in _SPECIAL and name not in sequences
    }
    return TableRow(
        number=number,
        subject=row["subject"],
        patient=row.get("patient_id") or row["subject"],
        site=row["site"],
        split=split,
        files=files,
        mask=masks["mask"],
        lesion_mask=masks["lesion_mask"],
        metadata={name: _value(where, name, value) for name, value in plain.items()},
    )


def _scan(table: Path, number: int, cell: str) -> Path:
    path = (table.parent / cell).resolve()
    if not path.is_file():
        raise DataError(
            f"{table}: row {number}: no such file '{cell}'; paths start at the table's folder"
        )
    return path


def _value(where: str, name: str, text: str) -> str | float:
    if name not in _NUMBERS:
        return text
    try:
        return float(text)
    except ValueError as error:
        raise DataError(
            f"{where}: {name} '{text}' is not a number; write it like 1.5, without a unit"
        ) from error
