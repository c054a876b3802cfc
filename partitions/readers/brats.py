"""BraTS in the layouts of 2017 to 2024, and FeTS: one folder of co-registered sequences per case.

A patient has several cases where they were scanned at several times (``BraTS-GLI-00000-000`` and
``-001``). Which hospital scanned whom stands in tables of their own: the mapping of BraTS 2021 or
2023 (column "Site No") or a partition of FeTS (``Partition_ID,Subject_ID``). The names of 2017 to
2019 hold it. Baid et al., "The RSNA-ASNR-MICCAI BraTS 2021 Benchmark", arXiv:2107.02314; Pati et
al., "The Federated Tumor Segmentation (FeTS) Challenge", arXiv:2105.05874.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedi2i.errors import DataError
from partitions.layouts.folder_walk import files_below, source_folder
from partitions.layouts.found_scans import Found, FoundScan, Recognised, some_of, write_found
from partitions.layouts.table_file import Table, without_missing
from partitions.layouts.workbook_file import read_table
from partitions.manifest import LESION_VALUES, SiteManifest
from partitions.readers import Reader
from partitions.scans.mask import LABELS

DATASET = "brats"
SEQUENCES = ("t1", "t1ce", "t2", "flair")
_NAMES_2023 = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}
_SEGMENTATION = "seg"
_FILE = re.compile(
    r"(?P<case>(?P<patient>BraTS-[A-Z]+(?:-RT)?-\d{5})-\d{3}"
    r"|BraTS2021_\d{5}|FeTS2022_\d{5}|BraTS20_(?:Training|Validation)_\d{3}"
    r"|(?i:BraTS)1[789]_(?P<institution>[A-Za-z0-9]+)_\w+?)"
    r"[-_](?P<sequence>t1ce|t1c|t1n|t1|t2w|t2f|t2|flair|seg)\.nii(?:\.gz)?"
)
_IDENTIFIER = re.compile(r"(?:brats|fets)\d{4}|subject_?id")
_SITE = re.compile(r"partition_?id|site no.*")
_GRADES = ("HGG", "LGG")


@dataclass
class _Case:
    """The files of one case."""

    patient: str
    institution: str | None
    grade: str | None
    files: dict[str, Path] = field(default_factory=dict)

    def missing(self) -> list[str]:
        return [name for name in SEQUENCES if name not in self.files]


def find_brats(source: Path, sites: Path | None = None) -> Found:
    """Find the cases below a folder.

    Args:
        source: the unpacked release, or a folder of several.
        sites: a mapping or partition that says which site a case belongs to; cases that it does not
            name are left out then.

    Raises:
        DataError: the folder is missing, or the table cannot be used.
    """
    cases, problems = _cases(source_folder(source, "the unpacked BraTS or FeTS release"))
    problems += [f"{name}: no {', '.join(c.missing())}" for name, c in cases.items() if c.missing()]
    unseen = [name for name, case in cases.items() if _SEGMENTATION not in case.files]
    if unseen:
        problems.append(
            f"{len(unseen)} cases have no segmentation and no lesion mask, as validation cases do: "
            f"{some_of(unseen)}"
        )
    usable = {name: case for name, case in cases.items() if len(case.missing()) < len(SEQUENCES)}
    placed = {name: case.institution or DATASET for name, case in usable.items()}
    if sites is None and any(case.institution is None for case in usable.values()):
        problems.append("no table says who was scanned where: all cases are one site; see --sites")
    if sites is not None:
        placed, left_out = _placed(usable, read_sites(sites))
        if left_out:
            problems.append(
                f"{len(left_out)} cases are in no row of {sites.name} and are left out: "
                f"{some_of(left_out)}"
            )
    return Found(
        tuple(_scan(name, usable[name], site) for name, site in placed.items()), tuple(problems)
    )


def read_sites(path: Path) -> dict[str, str]:
    """Which site every case and every patient of a table belongs to.

    Args:
        path: a mapping of BraTS or a partition of FeTS, as CSV or as a workbook. Numbers become
            ``site01``, ``site02`` ...

    Raises:
        DataError: it is neither, or gives one patient two sites.
    """
    table = read_table(path, {})
    identifiers = [name for name in table.columns if _IDENTIFIER.fullmatch(name)]
    (site, *_) = [name for name in table.columns if _SITE.fullmatch(name)] or [""]
    if not identifiers or not site:
        raise DataError(
            f"{path}: neither a mapping of BraTS (columns 'BraTS2021' and 'Site No') nor a "
            "partition of FeTS (columns 'Partition_ID' and 'Subject_ID'); give one of them"
        )
    found: dict[str, tuple[str, int]] = {}
    for name, place, row in _entries(table, identifiers, site):
        before, first = found.setdefault(name, (place, row))
        if before != place:
            raise DataError(
                f"{path}: row {row}: '{name}' is at {place}, but at {before} in row {first}; a "
                "patient belongs to one site: correct the table"
            )
    return {name: place for name, (place, _) in found.items()}


def import_brats(
    source: Path, out: Path, seed: int, sites: Path | None = None
) -> tuple[SiteManifest, ...]:
    """Write the manifests; see `find_brats` and ``write_site_folders``."""
    return write_found(out, DATASET, find_brats(source, sites), seed)


def recognise(folder: Path) -> Recognised | None:
    """What a folder in this layout holds; a table of sites that lies in it or beside is taken."""
    if not any(_FILE.fullmatch(path.name) for path in files_below(folder)):
        return None
    table = _table_in(folder)
    given = () if table is None else ("--sites", str(table))
    found = find_brats(folder, table)
    return Recognised(found, ("--source", str(folder), *given))


def _cases(source: Path) -> tuple[dict[str, _Case], list[str]]:
    cases: dict[str, _Case] = {}
    again: dict[str, list[Path]] = defaultdict(list)
    for path in files_below(source):
        match = _FILE.fullmatch(path.name)
        if match is None:
            continue
        name = match["case"]
        new = _Case(match["patient"] or name, match["institution"], _grade(path))
        sequence = _NAMES_2023.get(match["sequence"], match["sequence"])
        case = cases.setdefault(name, new)
        if sequence in case.files:
            again[name].append(path)
        else:
            case.files[sequence] = path
    problems = [
        f"{name}: {len(paths)} files are there twice, such as {paths[0]}; the first ones are taken"
        for name, paths in again.items()
    ]
    return cases, problems


def _grade(path: Path) -> str | None:
    return next((grade for grade in _GRADES if grade in path.parts), None)


def _placed(
    cases: Mapping[str, _Case], sites: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The site of every case that has one, and the cases that have none."""
    placed = {name: sites.get(name) or sites.get(case.patient) for name, case in cases.items()}
    return (
        {name: site for name, site in placed.items() if site},
        [name for name, site in placed.items() if not site],
    )


def _entries(table: Table, identifiers: Iterable[str], site: str) -> Iterator[tuple[str, str, int]]:
    """Every case and patient that a table names, its site, and the row."""
    for row in table.rows:
        place = _site_name(without_missing(row.cells[site]))
        for column in identifiers:
            name = without_missing(row.cells[column])
            if place and name:
                yield name, place, row.number
                patient = re.fullmatch(r"(BraTS-.+-\d{5})-\d{3}", name)
                if patient:
                    yield patient[1], place, row.number


def _site_name(cell: str) -> str:
    number = re.fullmatch(r"(\d+)(?:\.0)?", cell)  # spreadsheets write whole numbers as 1.0
    return f"site{int(number[1]):02d}" if number else cell


def _scan(name: str, case: _Case, site: str) -> FoundScan:
    files = dict(case.files)
    lesion = files.pop(_SEGMENTATION, None)
    metadata = {} if lesion is None else {LESION_VALUES: LABELS}
    if case.grade:
        metadata["grade"] = case.grade
    return FoundScan(name, case.patient, site, files, lesion_mask=lesion, metadata=metadata)


def _table_in(folder: Path) -> Path | None:
    """A mapping or the first partition in the folder or beside it."""
    patterns = ("*[Mm]apping*.xlsx", "*[Mm]apping*.csv", "partitioning_1.csv")
    for place in (folder, folder.resolve().parent):
        for pattern in patterns:
            for path in sorted(place.glob(pattern)):
                return path
    return None


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="the unpacked release")
    parser.add_argument(
        "--sites", type=Path, help="mapping of BraTS or partition of FeTS: who was scanned where"
    )


READER = Reader(
    help="BraTS 2017 to 2024 and FeTS, one site per institution",
    add_options=_add_options,
    bring_in=lambda options: import_brats(options.source, options.out, options.seed, options.sites),
    out=Path("data/brats"),
    settings=("target=flair", "spacing=null", "size=[224,192]"),
    layout="files like BraTS2021_00000_t1.nii.gz or BraTS-GLI-00000-000-t1n.nii.gz (BraTS, FeTS)",
    recognise=recognise,
)
