"""Any tree in the Brain Imaging Data Structure: ``sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz``.

Anatomical scans, CT and PET are taken from the subjects' own folders, so that derivatives, source
data and code are left out. Persons are described in ``participants.tsv``.
"""

from __future__ import annotations

import argparse
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedi2i.errors import ConfigError, DataError
from fedi2i.typed_config import nearest
from partitions.layouts.bids_names import BidsName, best_of, parse_name, sidecar_metadata
from partitions.layouts.folder_walk import files_below, source_folder
from partitions.layouts.found_scans import Found, FoundScan, Recognised, some_of, write_found
from partitions.layouts.table_file import Table, finite, read_table_file, without_missing
from partitions.manifest import AGE, OLDEST, SiteManifest
from partitions.readers import Reader

PARTICIPANTS = "participants.tsv"
FOLDERS = ("anat", "ct", "pet")
"""The kinds of scans that are one volume."""
SITE_COLUMNS = ("site", "site_id", "center", "centre", "hospital", "institution", "scanner_site")
"""Columns that say where a person was scanned; the first of them that is there counts."""

_COLUMNS = {
    AGE: AGE,
    "sex": "sex",
    "gender": "sex",
    "manufacturer": "manufacturer",
    "field_strength": "field_strength",
    "magneticfieldstrength": "field_strength",
}


def find_bids(source: Path, site: str, site_column: str | None = None) -> Found:
    """Find the scans of all subjects and sessions.

    Args:
        source: the folder that holds the folders ``sub-...``.
        site: the site of persons for whom no column names one.
        site_column: the column of ``participants.tsv`` that names the site; None for the first of
            ``SITE_COLUMNS`` that is there.

    Raises:
        DataError: no such folder, or a table that cannot be used.
        ConfigError: there is no such column.
    """
    source_folder(source, "the folder that holds the folders 'sub-...'")
    persons, problems = _participants(source / PARTICIPANTS, site_column)
    scans, seen = [], set()
    for folder in sorted(source.glob("sub-*")):
        found = _sessions(folder) if folder.is_dir() else {}
        seen.add(_plain(folder.name))
        if not found:
            problems.append(f"{folder.name}: no anatomical scan, CT or PET")
        known = persons.get(_plain(folder.name), {})
        for subject, files in sorted(found.items()):
            taken, said = _chosen(subject, files)
            problems += said
            scans.append(_scan(subject, folder.name, taken, known, site))
    if persons:
        problems += _unmatched(seen, persons)
    return Found(tuple(scans), tuple(problems))


def import_bids(
    source: Path,
    out: Path,
    seed: int,
    dataset: str,
    site: str | None = None,
    site_column: str | None = None,
) -> tuple[SiteManifest, ...]:
    """Write the manifests; see `find_bids` and ``write_site_folders``."""
    return write_found(out, dataset, find_bids(source, site or dataset, site_column), seed)


def recognise(folder: Path) -> Recognised | None:
    """What a folder in this layout holds."""
    if not any(_sessions(path) for path in sorted(folder.glob("sub-*"))):
        return None
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in folder.resolve().name)
    dataset = name.strip("-").lower() or "bids"
    out = ("--out", f"data/{dataset}")
    found = find_bids(folder, dataset)
    return Recognised(found, ("--source", str(folder), "--dataset", dataset, *out))


def _participants(
    path: Path, site_column: str | None
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What is known of every person, by their folder's name, ``site`` among it; and problems."""
    if not path.is_file():
        if site_column is not None:
            raise DataError(f"{path}: no such table, but --site-column names a column of it")
        return {}, []
    table = read_table_file(path, {})
    if "participant_id" not in table.columns:
        hint = nearest("participant_id", table.columns)
        raise DataError(f"{path}: no column 'participant_id'; {hint}")
    site = _site_column(table, site_column)
    persons: dict[str, dict[str, Any]] = {}
    nobody = []
    for row in table.rows:
        if not without_missing(row.cells["participant_id"]):
            nobody.append(str(row.number))
            continue
        name = _plain("sub-" + row.cells["participant_id"].removeprefix("sub-"))
        if name in persons:
            raise DataError(f"{path}: row {row.number}: '{name}' stands there twice; keep one row")
        persons[name] = _person(path, row.number, row.cells, site)
    return persons, _of_nobody(nobody)


def _of_nobody(rows: Sequence[str]) -> list[str]:
    if not rows:
        return []
    return [
        f"{len(rows)} rows of {PARTICIPANTS} describe nobody, as their participant_id is n/a (row "
        f"{some_of(rows)}): write whom they are about, or delete them"
    ]


def _site_column(table: Table, asked: str | None) -> str | None:
    if asked is None:
        return next((name for name in SITE_COLUMNS if name in table.columns), None)
    if asked.lower() not in table.columns:
        raise ConfigError(
            f"--site-column {asked}: {table.path} has no such column; "
            f"{nearest(asked.lower(), table.columns)}"
        )
    return asked.lower()


def _person(path: Path, number: int, cells: Mapping[str, str], site: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column, name in _COLUMNS.items():
        text = without_missing(cells.get(column, ""))
        if text:
            found[name] = _value(f"{path}: row {number}", name, text)
    if site is not None and (text := without_missing(cells[site])):
        found["site"] = text.replace(" ", "_")
    return found


def _value(where: str, name: str, text: str) -> Any:
    if name == AGE and text.replace(" ", "") in ("89+", OLDEST):
        return OLDEST
    if name not in (AGE, "field_strength"):
        return text
    return finite(text.replace(",", "."), f"{where}: {name} '{text}'")


def _plain(name: str) -> str:
    """A name in one spelling: systems write letters like é in two ways."""
    return unicodedata.normalize("NFC", name)


def _sessions(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """The scans of a person by subject (person and session) and sequence."""
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path, name in _named(folder):
        own = folder.name == f"sub-{name.entities['sub']}"
        if own and path.parent.name in FOLDERS and (sequence := name.sequence):
            session = name.entities.get("ses")
            found[f"{folder.name}_ses-{session}" if session else folder.name][sequence].append(path)
    return found


def _named(folder: Path) -> Iterator[tuple[Path, BidsName]]:
    for path in files_below(folder):
        name = parse_name(path.name)
        if name is not None:
            yield path, name


def _chosen(subject: str, files: Mapping[str, list[Path]]) -> tuple[dict[str, Path], list[str]]:
    """One scan per sequence, and a sentence where there are several."""
    taken = {sequence: best_of(paths) for sequence, paths in files.items()}
    return taken, [
        f"{subject}: {taken[sequence].name} is taken of {len(paths)} {sequence} scans"
        for sequence, paths in sorted(files.items())
        if len(paths) > 1
    ]


def _scan(
    subject: str, patient: str, files: Mapping[str, Path], known: Mapping[str, Any], site: str
) -> FoundScan:
    beside = sidecar_metadata(files.values())
    metadata = {**beside, **{name: value for name, value in known.items() if name != "site"}}
    return FoundScan(subject, patient, known.get("site", site), files, metadata=metadata)


def _unmatched(seen: set[str], persons: Mapping[str, Any]) -> list[str]:
    said = []
    for names, what in (
        (sorted(seen - set(persons)), f"are in no row of {PARTICIPANTS}"),
        (sorted(set(persons) - seen), f"of {PARTICIPANTS} have no folder"),
    ):
        if names:
            said.append(f"{len(names)} persons {what}: {some_of(names)}")
    return said


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", type=Path, required=True, help="the folder that holds the folders sub-..."
    )
    parser.add_argument("--dataset", required=True, help="the data set's name, as jobs call it")
    parser.add_argument("--site", help="of persons without one; by default the data set's name")
    parser.add_argument(
        "--site-column",
        help=f"column of {PARTICIPANTS}; by default {', '.join(SITE_COLUMNS[:3])} ...",
    )


READER = Reader(
    help="any tree in the Brain Imaging Data Structure (BIDS)",
    add_options=_add_options,
    bring_in=lambda options: import_bids(
        options.source,
        options.out,
        options.seed,
        options.dataset,
        options.site,
        options.site_column,
    ),
    layout="folders sub-... with anat, ct or pet below (BIDS)",
    recognise=recognise,
    general=True,
)
