"""In-house scans: a table of NIfTI files becomes one manifest per site."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from fedi2i.errors import DataError
from partitions.manifest import SiteManifest, SubjectRecord, check_partition, write_manifest
from partitions.readers.csv_table import TableRow, read_table
from partitions.splitting import FRACTIONS, split_by_completeness


def import_csv(
    table: Path,
    out: Path,
    dataset: str,
    seed: int,
    fractions: tuple[float, float, float] = FRACTIONS,
) -> tuple[SiteManifest, ...]:
    """Write ``<out>/<SITE>/manifest.json`` for every site of the table; scans stay in place.

    Args:
        table: CSV file, see `partitions.readers.csv_table.read_table`.
        out: the site folders go here; scans are named relative to them.
        dataset: the data set's name, as jobs will call it.
        seed: of the split by patient; not used when the table has splits.
        fractions: parts of train, val and test when the split is drawn.

    Raises:
        DataError: a row cannot be used, a patient stands in two splits or at two sites, or only
            some rows have a split; nothing is written then.
    """
    rows = read_table(table)
    drawn = _splits_are_drawn(table, rows)
    _check_patients(table, rows)
    sites: dict[str, list[TableRow]] = defaultdict(list)
    for row in rows:
        sites[row.site].append(row)
    manifests = []
    for site, members in sorted(sites.items()):
        splits = _drawn(members, seed, fractions) if drawn else {}
        root = (out / site).resolve()
        records = tuple(_record(row, root, row.split or splits[row.patient]) for row in members)
        ordered = tuple(sorted(records, key=lambda record: record.subject))
        split_seed = seed if drawn else None
        manifests.append(SiteManifest(dataset, site, ordered, root, split_seed=split_seed))
    check_partition(manifests)
    for manifest in manifests:
        write_manifest(manifest)
    return tuple(manifests)


def _drawn(
    rows: Sequence[TableRow], seed: int, fractions: tuple[float, float, float]
) -> dict[str, str]:
    sequences: dict[str, frozenset[str]] = {}
    for row in rows:
        names = frozenset(row.files)
        sequences[row.patient] = sequences.get(row.patient, names) & names
    return split_by_completeness(sequences, seed, fractions)


def _record(row: TableRow, root: Path, split: str) -> SubjectRecord:
    metadata = dict(row.metadata)
    if row.patient != row.subject:
        metadata["patient_id"] = row.patient
    return SubjectRecord(
        subject=row.subject,
        site=row.site,
        split=split,
        files={name: _reference(path, root) for name, path in row.files.items()},
        mask=None if row.mask is None else _reference(row.mask, root),
        lesion_mask=None if row.lesion_mask is None else _reference(row.lesion_mask, root),
        metadata=metadata,
    )


def _reference(path: Path, root: Path) -> str:
    """The path relative to the site folder; absolute only where another drive leaves no choice."""
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:
        return path.as_posix()


def _splits_are_drawn(table: Path, rows: Sequence[TableRow]) -> bool:
    without = [row.number for row in rows if row.split is None]
    if without and len(without) < len(rows):
        raise DataError(
            f"{table}: row {without[0]}: the split is empty while other rows have one; fill the "
            "column 'split' in all rows or in none"
        )
    return bool(without)


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
