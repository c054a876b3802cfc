"""IXI: brain MR of three London hospitals, one site each; https://brain-development.org/ixi-dataset.

The hospital is part of every file's name (``IXI002-Guys-0828-T1.nii.gz``). Files lie in one folder
per sequence, called ``IXI-T1`` or ``T1``, or all in one. Nothing is registered: T1 was acquired on
another grid than T2 and PD, which share theirs. Ages are in ``IXI.xls``, which has persons twice,
zeros for what is missing, and contradictions.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError
from partitions.layouts.folder_walk import files_below, source_folder
from partitions.layouts.found_scans import Found, FoundScan, Recognised, some_of, write_found
from partitions.layouts.table_file import Row, without_missing
from partitions.layouts.workbook_file import read_table
from partitions.manifest import AGE, SiteManifest
from partitions.readers import Reader
from partitions.scans.grid import Grid, on_one_grid, to_lps
from partitions.scans.header import read_scan_file

DATASET = "ixi"
SHEET = "Table"
SCANNERS: dict[str, dict[str, Any]] = {
    "Guys": {"manufacturer": "Philips", "field_strength": 1.5},
    "HH": {"manufacturer": "Philips", "field_strength": 3.0},
    "IOP": {"manufacturer": "GE", "field_strength": 1.5},
}
"""Guy's Hospital, Hammersmith Hospital, Institute of Psychiatry; as the data set's page says."""

_FILE = re.compile(
    rf"IXI(?P<number>\d+)-(?P<site>{'|'.join(SCANNERS)})-(?P<examination>\d+)"
    r"-(?P<sequence>T1|T2|PD|MRA|DTI)(?:-\d+)?\.nii(?:\.gz)?"
)
_COLUMNS = {"ixi_id": "number", "sex_id_1_m_2_f": "sex", "age": AGE}
_SEXES = {1.0: "M", 2.0: "F"}


def find_ixi(source: Path, demographics: Path | None = None) -> Found:
    """Find the scans of all persons; diffusion scans are left out, as they are many to a person.

    Args:
        source: the folder with the unpacked files, in folders or not.
        demographics: ``IXI.xls`` or what was saved from its sheet "Table" as CSV.

    Raises:
        DataError: the folder is missing, or the table cannot be used.
    """
    files, problems = _files(source_folder(source, "the folder of the unpacked IXI files"))
    persons: dict[int, dict[str, Any]] = {}
    if demographics is not None:
        persons, said = read_demographics(demographics)
        problems += said
    scans = [_scan(subject, found, persons) for subject, found in sorted(files.items())]
    absent = [scan.patient for scan in scans if int(scan.patient[3:]) not in persons]
    if demographics is not None and absent:
        problems.append(
            f"{len(absent)} persons are in no row of {demographics.name} and come without age and "
            f"sex: {some_of(absent)}"
        )
    return Found(tuple(scans), (*problems, *_grids(scans)))


def read_demographics(path: Path) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """Age in years and sex of every person, by the number in their file's name.

    Of a person's several rows each value is taken that is not 0 or empty. Where they contradict
    each other, nobody can tell which is right, and the person comes without that value.

    Returns:
        The metadata of persons, and what should be known.

    Raises:
        DataError: the table has other columns, or a cell that is no number.
    """
    table = read_table(path, _COLUMNS, SHEET)
    lacking = [name for name in _COLUMNS.values() if name not in table.columns]
    if lacking:
        raise DataError(
            f"{path}: no columns 'IXI_ID', 'SEX_ID (1=m, 2=f)' and 'AGE'; give IXI.xls, or its "
            f"sheet '{SHEET}' as CSV"
        )
    rows: dict[int, list[dict[str, float]]] = defaultdict(list)
    for row in table.rows:
        values = {name: _number(path, row, name) for name in _COLUMNS.values()}
        rows[int(values.pop("number"))].append(values)
    persons = {number: _agreed(found) for number, found in rows.items() if number}
    unsure = [f"IXI{n:03d}" for n, found in rows.items() if n and _contradicts(found)]
    ageless = [f"IXI{n:03d}" for n, person in persons.items() if AGE not in person]
    said = []
    if unsure:
        said.append(
            f"{path.name}: the rows of {some_of(unsure)} contradict each other; what differs is "
            "left out"
        )
    if ageless:
        said.append(f"{path.name}: no age of {len(ageless)} persons: {some_of(ageless)}")
    return persons, said


def import_ixi(
    source: Path, out: Path, seed: int, demographics: Path | None = None
) -> tuple[SiteManifest, ...]:
    """Write the manifests; see `find_ixi` and ``write_site_folders``."""
    return write_found(out, DATASET, find_ixi(source, demographics), seed)


def recognise(folder: Path) -> Recognised | None:
    """What a folder in this layout holds; ``IXI.xls`` in it or beside is taken."""
    if not any(_FILE.fullmatch(path.name) for path in files_below(folder)):
        return None
    places = (folder, folder.resolve().parent)
    tables = [p / name for p in places for name in ("IXI.xls", "IXI.csv") if (p / name).is_file()]
    given = ("--demographics", str(tables[0])) if tables else ()
    found = find_ixi(folder, tables[0] if tables else None)
    return Recognised(found, ("--source", str(folder), *given))


def _files(source: Path) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """Sequence name to file of every subject, and what was passed over."""
    files: dict[str, dict[str, Path]] = defaultdict(dict)
    again, diffusion = [], set()
    for path in files_below(source):
        match = _FILE.fullmatch(path.name)
        if match is None:
            continue
        subject = path.name.rsplit(f"-{match['sequence']}", 1)[0]
        sequence = match["sequence"].lower()
        if sequence == "dti":
            diffusion.add(subject)
        elif files[subject].setdefault(sequence, path) != path:
            again.append(str(path))
    problems = []
    if diffusion:
        problems.append(f"the diffusion scans of {len(diffusion)} persons are left out")
    if again:
        problems.append(f"{len(again)} files are there twice and left out: {some_of(again)}")
    return {subject: found for subject, found in files.items() if found}, problems


def _scan(
    subject: str, files: Mapping[str, Path], persons: Mapping[int, Mapping[str, Any]]
) -> FoundScan:
    patient, site, _ = subject.split("-")
    metadata = {**SCANNERS[site], **persons.get(int(patient[3:]), {})}
    return FoundScan(subject, patient, site, files, metadata=metadata)


def _number(path: Path, row: Row, name: str) -> float:
    """The number in a cell, 0 where there is none."""
    text = without_missing(row.cells[name]).replace(",", ".")
    try:
        number = float(text) if text else 0.0
    except ValueError as error:
        raise DataError(
            f"{path}: row {row.number}: {name} '{text}' is not a number; correct the cell"
        ) from error
    return number if math.isfinite(number) else 0.0


def _agreed(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What a person's rows say, without what they contradict each other in."""
    ages, sexes = _values(rows, AGE), _values(rows, "sex") & set(_SEXES)
    found: dict[str, Any] = {}
    if len(ages) == 1:
        found[AGE] = ages.pop()
    if len(sexes) == 1:
        found["sex"] = _SEXES[sexes.pop()]
    return found


def _contradicts(rows: Sequence[Mapping[str, float]]) -> bool:
    return any(len(_values(rows, name)) > 1 for name in (AGE, "sex"))


def _values(rows: Iterable[Mapping[str, float]], name: str) -> set[float]:
    # One digit after the point: the table has the age to the day, which is nobody's business.
    return {round(row[name], 1) for row in rows if row[name]}


def _grids(scans: Iterable[FoundScan]) -> list[str]:
    """For every pair of sequences that lie on different grids: in how many subjects they do."""
    apart: dict[tuple[str, str], int] = defaultdict(int)
    for scan in scans:
        grids = {name: grid for name, path in scan.files.items() if (grid := _grid(path))}
        for one, other in itertools.combinations(sorted(grids), 2):
            apart[one, other] += not on_one_grid(grids[one], grids[other])
    return [
        f"{one.upper()} and {other.upper()} lie on different voxel grids in {count} subjects: "
        "'registration: headers' or 'registration: rigid' lays one over the other; T2 and PD are "
        "acquired together"
        for (one, other), count in sorted(apart.items())
        if count
    ]


def _grid(path: Path) -> Grid | None:
    header = read_scan_file(path).header
    return None if header is None or header.grid is None else to_lps(header.grid)[1]


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", type=Path, required=True, help="the folder of the unpacked files"
    )
    parser.add_argument("--demographics", type=Path, help="IXI.xls, or its sheet 'Table' as CSV")


READER = Reader(
    help="IXI brain MR, one site per hospital",
    add_options=_add_options,
    bring_in=lambda options: import_ixi(
        options.source, options.out, options.seed, options.demographics
    ),
    out=Path("data/ixi"),
    settings=("source=t2", "target=pd", "spacing=null", "size=[256,256]"),
    layout="files like IXI002-Guys-0828-T1.nii.gz (IXI)",
    recognise=recognise,
)
