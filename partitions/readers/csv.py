"""Scans of one's own: a table of NIfTI files, one row per subject, becomes one manifest per site.

Every complaint names the row, counted as lines of the file with the header as line 1.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError
from fedi2i.site_names import check_site_name, check_site_names
from fedi2i.typed_config import nearest
from partitions.manifest import PATIENT_ID, SPLITS, SiteManifest, SubjectRecord
from partitions.readers import Reader
from partitions.site_folders import TO_BE_DRAWN, path_from, write_site_folders

_ALIASES = {"case_id": "subject", "lesion": "lesion_mask"}
_SPECIAL = ("subject", PATIENT_ID, "site", "split", "mask", "lesion_mask")
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


def import_csv(table: Path, out: Path, dataset: str, seed: int) -> tuple[SiteManifest, ...]:
    """Write ``<out>/<SITE>/manifest.json`` for every site of the table; scans stay in place.

    Args:
        table: CSV file, see `read_table`.
        out: the site folders go here; scans are named relative to them.
        dataset: the data set's name, as jobs will call it.
        seed: of the split by patient; not used when the table has splits.

    Raises:
        DataError: a row cannot be used, a patient is in two splits or at two sites, or only some
            rows have a split; nothing is written then.
    """
    rows = read_table(table)
    _check_splits(table, rows)
    _check_patients(table, rows)
    records = [_record(row, out / row.site) for row in rows]
    return write_site_folders(out, dataset, records, seed)


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
                f"{path}: row {row.number}: subject '{row.subject}' already appears in "
                f"row {first[row.subject]}; keep one row per subject"
            )
        first[row.subject] = row.number
    return rows


def _check_splits(table: Path, rows: Sequence[TableRow]) -> None:
    without = [row.number for row in rows if row.split is None]
    if without and len(without) < len(rows):
        raise DataError(
            f"{table}: row {without[0]}: the split is empty while other rows have one; fill the "
            "column 'split' in all rows or in none"
        )


def _check_patients(table: Path, rows: Sequence[TableRow]) -> None:
    first: dict[str, TableRow] = {}
    for row in rows:
        other = first.setdefault(row.patient, row)
        for what, here, there in (
            ("site", row.site, other.site),
            ("split", row.split, other.split),
        ):
            if here != there:
                raise DataError(
                    f"{table}: row {row.number}: patient '{row.patient}' has {what} '{here}' but "
                    f"'{there}' in row {other.number}; a patient belongs to one {what}"
                )


def _record(row: TableRow, root: Path) -> SubjectRecord:
    metadata = dict(row.metadata)
    if row.patient != row.subject:
        metadata[PATIENT_ID] = row.patient
    return SubjectRecord(
        subject=row.subject,
        site=row.site,
        split=row.split or TO_BE_DRAWN,
        files={name: path_from(root, path) for name, path in row.files.items()},
        mask=None if row.mask is None else path_from(root, row.mask),
        lesion_mask=None if row.lesion_mask is None else path_from(root, row.lesion_mask),
        metadata=metadata,
    )


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
        raise DataError(f"{path}: column '{twice[0]}' appears twice; rename or remove one")
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
        patient=row.get(PATIENT_ID) or row["subject"],
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


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table", type=Path, required=True, help="see docs/data.md for its columns"
    )
    parser.add_argument("--dataset", required=True, help="the data set's name, as jobs call it")


READER = Reader(
    help="make manifests from a table of NIfTI scans, which stay where they are",
    add_options=_add_options,
    bring_in=lambda options: import_csv(options.table, options.out, options.dataset, options.seed),
)
