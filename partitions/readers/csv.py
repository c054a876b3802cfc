"""Scans of one's own: a table with one row per subject becomes one manifest per site.

The scans are NIfTI, MHA or NRRD files, and stay where they are.

Every complaint names the row, counted as lines of the file with the header as line 1.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedi2i.errors import ConfigError, DataError
from fedi2i.site_names import check_site_name, check_site_names
from fedi2i.typed_config import nearest
from partitions.check.rules.data_sets import is_personal
from partitions.layouts.found_scans import Found, FoundScan, Recognised
from partitions.layouts.table_file import Row, Table, read_table_file, without_missing
from partitions.manifest import (
    AGE,
    LESION_VALUES,
    MASK_VALUES,
    OLDEST,
    PATIENT_ID,
    SPLITS,
    SiteManifest,
    SubjectRecord,
    with_grouped_age,
)
from partitions.readers import Reader
from partitions.scans.header import SCANS, format_of, read_scan_file
from partitions.scans.mask import DECLARATIONS, mask_values
from partitions.site_folders import TO_BE_DRAWN, path_from, write_site_folders

logger = logging.getLogger(__name__)

_SPECIAL = ("subject", PATIENT_ID, "site", "split", "mask", "lesion_mask")
_NUMBERS = (
    AGE,
    "field_strength",
    "kvp",
    "suv_factor",
    "slice_thickness",
    "echo_time",
    "repetition_time",
    "inversion_time",
    "flip_angle",
)
METADATA = (
    *_NUMBERS,
    "sex",
    "manufacturer",
    "model",
    "modality",
    "kernel",
    "contrast_agent",
    "body_part",
    "voxel_size",
    MASK_VALUES,
    LESION_VALUES,
)
"""Columns that manifests keep. Any other is dropped unless it is asked for: what a hospital's table
holds besides is nobody's business here."""
_NAMES = {
    **{name: name for name in (*_SPECIAL, *METADATA)},
    "case_id": "subject",
    "lesion": "lesion_mask",
    "gender": "sex",
    "patient_sex": "sex",
    "patient_age": AGE,
    "magnetic_field_strength": "field_strength",
    "manufacturer_model_name": "model",
}


@dataclass(frozen=True)
class TableRow:
    """One subject as the table gives it; paths exist.

    Attributes:
        number: line in the file, the header being line 1.
        subject: identifier.
        patient: identifier of the person; the subject's where the table has no such column.
        site: site name.
        split: ``train``, ``val``, ``test``, or None where the table leaves it to be drawn.
        files: sequence name to file.
        mask: head or brain mask.
        lesion_mask: lesion region.
        metadata: the filled cells of the columns that are kept; those of ``_NUMBERS`` as numbers,
            but ages from 90 on as one group.
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


def import_csv(
    table: Path, out: Path, dataset: str, seed: int, keep: Collection[str] = ()
) -> tuple[SiteManifest, ...]:
    """Write ``<out>/<SITE>/manifest.json`` for every site of the table; scans stay in place.

    Args:
        table: CSV file, see `read_table`.
        out: the site folders go here; scans are named relative to them.
        dataset: the data set's name, as jobs will call it.
        seed: of the split by patient; not used when the table has splits.
        keep: columns to keep as metadata besides ``METADATA``.

    Raises:
        DataError: a row cannot be used, a patient is in two splits, or only some rows have a split;
            nothing is written then.
        ConfigError: ``keep`` names a column that looks personal.
    """
    rows = read_table(table, keep)
    _check_splits(table, rows)
    _check_patients(table, rows)
    records = [_record(row, out / row.site) for row in rows]
    return write_site_folders(out, dataset, records, seed)


def read_table(path: Path, keep: Collection[str] = ()) -> tuple[TableRow, ...]:
    """Read and check all rows.

    A column whose filled cells end like ``SCANS`` is a sequence. Of the others those of
    ``METADATA`` and of ``keep`` are metadata, and the rest is dropped with a warning. Paths start
    at the table's folder. A subject is one within its site: ``sub-01`` at two hospitals is two
    people.

    Raises:
        DataError: naming the row and what is wrong with it.
        ConfigError: ``keep`` names a column that looks personal.
    """
    kept = frozenset(name.strip().lower() for name in keep)
    for name in sorted(kept):
        if is_personal(name):
            raise ConfigError(
                f"--keep {name}: looks like names, birth dates or addresses, which no manifest may "
                "hold; rename the column if it is something else"
            )
    table = read_table_file(path, _NAMES)
    if not table.rows:
        raise DataError(f"{path}: holds no rows; add one row per subject")
    _check_columns(table)
    sequences = _sequence_columns(table)
    metadata = _metadata_columns(table, sequences, kept)
    rows = tuple(_row(table, row, sequences, metadata) for row in table.rows)
    check_site_names((row.site for row in rows), str(path))
    _check_subjects(path, rows)
    return rows


def recognise(folder: Path) -> Recognised | None:
    """What the first table of scans in a folder names."""
    for path in sorted((*folder.glob("*.csv"), *folder.glob("*.tsv"))):
        try:
            if not {"subject", "site"} <= set(read_table_file(path, _NAMES).columns):
                continue
        except DataError:
            continue
        scans = [
            FoundScan(row.subject, row.patient, row.site, row.files, split=row.split or TO_BE_DRAWN)
            for row in read_table(path)
        ]
        dataset = "".join(c if c.isascii() and c.isalnum() else "-" for c in path.stem.lower())
        given = ("--table", str(path), "--dataset", dataset, "--out", f"data/{dataset}")
        return Recognised(Found(tuple(scans)), given)
    return None


def _check_subjects(path: Path, rows: Sequence[TableRow]) -> None:
    first: dict[tuple[str, str], int] = {}
    for row in rows:
        other = first.setdefault((row.site, row.subject), row.number)
        if other != row.number:
            raise DataError(
                f"{path}: row {row.number}: subject '{row.subject}' already appears in "
                f"row {other}; keep one row per subject"
            )


def _check_splits(table: Path, rows: Sequence[TableRow]) -> None:
    without = [row.number for row in rows if row.split is None]
    if without and len(without) < len(rows):
        raise DataError(
            f"{table}: row {without[0]}: the split is empty while other rows have one; fill the "
            "column 'split' in all rows or in none"
        )


def _check_patients(table: Path, rows: Sequence[TableRow]) -> None:
    first: dict[tuple[str, str], TableRow] = {}
    for row in rows:
        other = first.setdefault((row.site, row.patient), row)
        if row.split != other.split:
            raise DataError(
                f"{table}: row {row.number}: patient '{row.patient}' has split '{row.split}' but "
                f"'{other.split}' in row {other.number}; a patient belongs to one split"
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


def _check_columns(table: Table) -> None:
    for needed in ("subject", "site"):
        if needed not in table.columns:
            hint = nearest(needed, table.columns)
            raise DataError(
                f"{table.path}: no column '{needed}' (or 'case_id' for 'subject'); {hint}"
            )


def _sequence_columns(table: Table) -> tuple[str, ...]:
    found = []
    for name in table.columns:
        filled = [(row.number, text) for row in table.rows if (text := _text(row, name))]
        for number, text in filled if name not in ("subject", PATIENT_ID, "site", "split") else ():
            _refuse_other_format(table.path, number, name, text)
        scans = [text.lower().endswith(SCANS) for _, text in filled]
        if name in _SPECIAL or not any(scans):
            continue
        if not all(scans):
            number, text = filled[scans.index(False)]
            raise DataError(
                f"{table.path}: row {number}: '{text}' in the sequence column '{name}' is not a "
                ".nii.gz, .nii, .mha or .nrrd file; correct it or leave the cell empty"
            )
        found.append(name)
    if len(found) < 2:
        raise DataError(
            f"{table.path}: found {len(found)} sequence columns, two are needed; fill one column "
            "per sequence with paths of .nii.gz, .nii, .mha or .nrrd files"
        )
    return tuple(found)


def _text(row: Row, name: str) -> str:
    return without_missing(row.cells[name])


def _refuse_other_format(table: Path, number: int, column: str, text: str) -> None:
    """Refuse a cell that names a scan in a format that is not read."""
    path = table.parent / text.replace("\\", "/")
    other = f"a {name} file" if (name := format_of(path)) else None
    try:
        if other is None and path.is_dir() and path != table.parent and "/" in str(text):
            other = "a folder, as DICOM series are"
        elif other is None and path.is_file() and not text.lower().endswith(SCANS):
            fault = read_scan_file(path).fault
            other = "a DICOM file" if fault and fault.rule == "other-format" else None
    except (OSError, ValueError):  # a text that cannot be a path
        return
    if other is not None:
        raise DataError(
            f"{table}: row {number}: column '{column}' holds '{text}', {other}; a table names "
            ".nii.gz, .nii, .mha or .nrrd files, and 'fedi2i data dicom' brings DICOM in"
        )


def _metadata_columns(
    table: Table, sequences: Collection[str], keep: frozenset[str]
) -> tuple[str, ...]:
    """The columns that become metadata; the others are named and dropped."""
    others = [name for name in table.columns if name not in (*_SPECIAL, *sequences)]
    unknown = sorted(keep - set(others))
    if unknown:
        raise ConfigError(f"--keep {unknown[0]}: {table.path} has no such column among the others")
    for name in others:
        if is_personal(name):
            logger.warning("%s: column '%s' looks personal and is left out", table.path, name)
        elif name not in METADATA and name not in keep:
            logger.warning(
                "%s: column '%s' is left out; '--keep %s' keeps it", table.path, name, name
            )
    return tuple(n for n in others if (n in METADATA or n in keep) and not is_personal(n))


def _row(table: Table, row: Row, sequences: Sequence[str], metadata: Sequence[str]) -> TableRow:
    path, where = table.path, f"{table.path}: row {row.number}"
    subject, site = _text(row, "subject"), _text(row, "site")
    if not subject:
        raise DataError(f"{where}: the subject is empty; name it")
    check_site_name(site, where)
    texts = {name: _text(row, name) for name in table.columns}
    split = texts.get("split", "").lower() or None
    if split is not None and split not in SPLITS:
        raise DataError(f"{where}: unknown split '{split}'; {nearest(split, SPLITS)}")
    masks = {
        name: _scan(path, row.number, texts[name]) if texts.get(name) else None
        for name in ("mask", "lesion_mask")
    }
    return TableRow(
        number=row.number,
        subject=subject,
        patient=texts.get(PATIENT_ID) or subject,
        site=site,
        split=split,
        files={n: _scan(path, row.number, texts[n]) for n in sequences if texts[n]},
        mask=masks["mask"],
        lesion_mask=masks["lesion_mask"],
        metadata=with_grouped_age(
            {
                name: _value(where, name, texts[name], table.separator)
                for name in metadata
                if texts[name]
            }
        ),
    )


def _scan(table: Path, number: int, cell: str) -> Path:
    path = table.parent / cell
    if not path.exists():
        path = table.parent / cell.replace("\\", "/")
    # The link itself, not what it leads to: git-annex calls its files by their hash.
    path = path.parent.resolve() / path.name
    if not path.is_file():
        fault = read_scan_file(path).fault
        if fault is not None and fault.rule == "annex-pointer":
            raise DataError(
                f"{table}: row {number}: '{cell}' is a pointer of git-annex; fetch the scan with "
                "'git annex get' first"
            )
        raise DataError(
            f"{table}: row {number}: no such file '{cell}'; paths start at the table's folder"
        )
    return path


def _value(where: str, name: str, text: str, separator: str) -> str | float:
    if name in (MASK_VALUES, LESION_VALUES) and mask_values(text) is None:
        raise DataError(f"{where}: {name} '{text}' is not known; write {DECLARATIONS}")
    if name not in _NUMBERS or (name, text) == (AGE, OLDEST):
        return text
    # German and French spreadsheets separate cells by ';' and write 1,5.
    plain = text.replace(",", ".") if separator != "," and text.count(",") == 1 else text
    try:
        number = float(plain)
    except ValueError as error:
        raise DataError(
            f"{where}: {name} '{text}' is not a number; write it like 1.5, without a unit"
        ) from error
    if not math.isfinite(number):
        raise DataError(f"{where}: {name} '{text}' is not a finite number; correct or empty it")
    return number


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table", type=Path, required=True, help="see docs/data.md for its columns"
    )
    parser.add_argument("--dataset", required=True, help="the data set's name, as jobs call it")
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="COLUMN",
        help="keep one more column as metadata",
    )


READER = Reader(
    help="NIfTI, MHA or NRRD scans through a table; they stay where they are",
    add_options=_add_options,
    bring_in=lambda options: import_csv(
        options.table, options.out, options.dataset, options.seed, options.keep
    ),
    layout="a table with columns subject, site and NIfTI files (docs/data.md)",
    recognise=recognise,
    general=True,
)
