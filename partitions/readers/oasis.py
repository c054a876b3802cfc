"""OASIS-3: MR sessions of ageing adults, in the names of its archive or as a BIDS tree.

``OAS30001_MR_d0757/anat1/sub-OAS30001_ses-d0757_acq-TSE_T2w.nii.gz``; ``d0757`` counts the days
since the person's first visit. LaMontagne et al., "OASIS-3", medRxiv 2019,
doi:10.1101/2019.12.13.19014902. A site is a scanner's field strength, as the data come from one
hospital.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError
from partitions.layouts.bids_names import best_of, parse_name, sidecar_metadata
from partitions.layouts.folder_walk import files_below, source_folder
from partitions.layouts.found_scans import (
    Found,
    FoundScan,
    Recognised,
    at_one_site,
    some_of,
    write_found,
)
from partitions.layouts.table_file import finite, read_table_file, without_missing
from partitions.manifest import AGE, SiteManifest
from partitions.readers import Reader

DATASET = "oasis"
UNKNOWN_SITE = "unknown-scanner"
"""Sessions whose field strength stands nowhere."""

_PERSON = re.compile(r"OAS\d{5}")
_SKIPPED = frozenset({"derivatives", "sourcedata", "freesurfer"})
_COLUMNS = {"m_f": "sex", "scanner": "field_strength"}


def find_oasis(source: Path, catalogue: Path | None = None) -> Found:
    """Find the MR sessions.

    Args:
        source: the folder of the downloaded sessions.
        catalogue: the archive's list of MR sessions as CSV: columns Label, Age, M/F and Scanner.
            Without it the field strength is read from the JSON files beside the scans.

    Raises:
        DataError: the folder is missing, or the catalogue cannot be used.
    """
    sessions, problems = _sessions(source_folder(source, "the folder of the OASIS-3 sessions"))
    listed = {} if catalogue is None else read_catalogue(catalogue)
    scans = [_scan(session, files, listed) for session, files in sorted(sessions.items())]
    if catalogue is not None and (absent := [s.subject for s in scans if s.subject not in listed]):
        problems.append(
            f"{len(absent)} sessions are in no row of {catalogue.name}: {some_of(absent)}"
        )
    kept, moved = at_one_site(scans)
    if moved:
        problems.append(
            f"{len(moved)} sessions are left out, because their person was scanned at another "
            f"field strength more often and belongs to one site: {some_of(moved)}"
        )
    return Found(kept, tuple(problems))


def read_catalogue(path: Path) -> dict[str, dict[str, Any]]:
    """Age, sex and field strength by session.

    Raises:
        DataError: the table has other columns, or a cell cannot be read.
    """
    table = read_table_file(path, _COLUMNS)
    if "label" not in table.columns:
        raise DataError(f"{path}: no column 'Label'; give the archive's list of MR sessions as CSV")
    found: dict[str, dict[str, Any]] = {}
    for row in table.rows:
        texts = {
            name: without_missing(row.cells.get(name, ""))
            for name in (AGE, "sex", "field_strength")
        }
        found[row.cells["label"]] = {
            name: text if name == "sex" else _number(f"{path}: row {row.number}", name, text)
            for name, text in texts.items()
            if text
        }
    return found


def import_oasis(
    source: Path, out: Path, seed: int, catalogue: Path | None = None
) -> tuple[SiteManifest, ...]:
    """Write the manifests; see `find_oasis` and ``write_site_folders``."""
    return write_found(out, DATASET, find_oasis(source, catalogue), seed)


def recognise(folder: Path) -> Recognised | None:
    """What a folder in this layout holds."""
    names = (parse_name(path.name) for path in files_below(folder, _SKIPPED))
    if not any(name and _PERSON.fullmatch(name.entities["sub"]) for name in names):
        return None
    return Recognised(find_oasis(folder), ("--source", str(folder)))


def _sessions(source: Path) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """One scan per session and sequence; further runs are counted."""
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in files_below(source, _SKIPPED):
        name = parse_name(path.name)
        day = name and (name.entities.get("ses") or name.entities.get("sess"))
        if name is None or not day or not _PERSON.fullmatch(name.entities["sub"]):
            continue
        sequence = name.sequence
        if sequence and sequence != "pet":
            found[f"{name.entities['sub']}_MR_{day}"][sequence].append(path)
    further = sum(len(paths) - 1 for files in found.values() for paths in files.values())
    problems = [f"{further} further runs of a sequence are left out"] if further else []
    return {
        session: {sequence: best_of(paths) for sequence, paths in files.items()}
        for session, files in found.items()
    }, problems


def _scan(
    session: str, files: Mapping[str, Path], listed: Mapping[str, Mapping[str, Any]]
) -> FoundScan:
    metadata = {**sidecar_metadata(files.values()), **listed.get(session, {})}
    strength = metadata.get("field_strength")
    site = UNKNOWN_SITE
    if isinstance(strength, int | float):
        # 1.494 and 2.89 are what scanners of 1.5 and 3 T write.
        site = f"{round(strength * 2) / 2:g}T".replace(".", "_")
    return FoundScan(session, session.partition("_")[0], site, files, metadata=metadata)


def _number(where: str, name: str, text: str) -> float:
    return finite(text.upper().removesuffix("T").strip(), f"{where}: {name} '{text}'")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="the folder of the sessions")
    parser.add_argument("--catalogue", type=Path, help="the archive's list of MR sessions as CSV")


READER = Reader(
    help="OASIS-3 brain MR, one site per field strength",
    add_options=_add_options,
    bring_in=lambda options: import_oasis(
        options.source, options.out, options.seed, options.catalogue
    ),
    out=Path("data/oasis"),
    layout="files like sub-OAS30001_ses-d0129_T1w.nii.gz (OASIS-3)",
    recognise=recognise,
)
