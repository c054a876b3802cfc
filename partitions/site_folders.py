"""The site folders of a data set: write those of scans that a reader found, find those on disk."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from fedi2i.errors import DataError
from fedi2i.files import real_path
from fedi2i.site_names import check_site_names
from partitions.check.manifests import check_partition
from partitions.manifest import FILE_NAME, Origin, SiteManifest, SubjectRecord, write_manifest
from partitions.splitting import FRACTIONS, Fractions, split_by_completeness
from partitions.withdrawn_patients import without_withdrawn

logger = logging.getLogger(__name__)

WITHDRAWN = "withdrawn-manifest.json"
"""What the manifest of a site is called once a new import does not have that site any more."""
TO_BE_DRAWN = ""
"""Stands in the place of a subject's split until `write_site_folders` has drawn it."""

_ORIGIN: ContextVar[Origin | None] = ContextVar("origin", default=None)


@contextmanager
def written_by(origin: Origin) -> Iterator[None]:
    """Let every manifest that is written inside name the code of somebody else that wrote it.

    A lab's own reader writes manifests by itself. It cannot be asked to name itself truthfully, and
    a manifest in which the name is added afterwards would be half-written until then.
    """
    token = _ORIGIN.set(origin)
    try:
        yield
    finally:
        _ORIGIN.reset(token)


def write_site_folders(
    out: Path,
    dataset: str,
    records: Iterable[SubjectRecord],
    seed: int,
    fractions: Fractions = FRACTIONS,
    complete: Callable[[SiteManifest], SiteManifest] = lambda manifest: manifest,
) -> tuple[SiteManifest, ...]:
    """Write ``<out>/<site>/manifest.json`` for every site; how every reader ends.

    A site that an earlier import of the data set left in ``out`` and that is not among the records
    has left the data set: its manifest is renamed to ``WITHDRAWN`` with a warning, so that nothing
    counts it. Patients whom a site has withdrawn are left out.

    Args:
        out: the site folders are here, or are made here.
        dataset: the data set's name, as jobs will call it.
        records: the subjects that were found, of all sites and in any order. Their files are
            relative to ``<out>/<site>``. Either all have a split, or all have ``TO_BE_DRAWN``:
            then patients are divided here, within each site.
        seed: of that division. The manifests record it, or null where the splits were given.
        fractions: parts of train, val and test.
        complete: adds to a manifest what no record says, once its splits are known.

    Returns:
        The manifests, in the order of the sites' names; subjects in the order of theirs.

    Raises:
        ConfigError: a site has a name that no site can have.
        DataError: there are no subjects, only some have a split, a patient is in two splits, or two
            persons have one scan. Nothing is written then.
    """
    found = sorted(records, key=lambda record: (record.site, record.subject))
    drawn = _are_drawn(dataset, found)
    check_site_names((record.site for record in found), f"data set '{dataset}'")
    manifests = []
    for site, group in groupby(found, key=lambda record: record.site):
        subjects = tuple(group)
        if drawn:
            subjects = _with_splits(subjects, seed, fractions)
        # Afterwards, so that a withdrawal moves nobody else to another split.
        subjects = without_withdrawn(out / site, subjects)
        split_seed = seed if drawn else None
        manifest = SiteManifest(
            dataset, site, subjects, out / site, split_seed=split_seed, origin=_ORIGIN.get()
        )
        manifests.append(complete(manifest))
    for finding in check_partition(manifests):
        logger.warning("%s", finding.text())
    for manifest in manifests:
        write_manifest(manifest)
        (manifest.root / WITHDRAWN).unlink(missing_ok=True)
    _withdraw(out, dataset, {manifest.site for manifest in manifests})
    return tuple(manifests)


def find_site_folders(root: Path) -> tuple[Path, ...]:
    """The folders at or below ``root`` that hold a manifest, in order of their names.

    Nothing below a site folder is searched, and hidden folders are not entered.

    Raises:
        DataError: the folder is missing, or holds no manifest.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such data folder; correct the path")
    found = []
    for folder, below, files in os.walk(root):
        if FILE_NAME in files:
            found.append(Path(folder))
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith("."))
    if not found:
        raise DataError(
            f"{root}: no {FILE_NAME} in it or below; bring the scans in with 'fedi2i data' "
            "first (see docs/data.md)"
        )
    return tuple(found)


def find_withdrawn(root: Path) -> tuple[Path, ...]:
    """The folders directly below ``root`` whose site has left the data set."""
    return tuple(sorted(path.parent for path in root.glob(f"*/{WITHDRAWN}")))


def path_from(folder: Path, scan: Path) -> str:
    """How the manifest of a site folder names a scan that stays where it is.

    The path is relative; absolute only where another drive leaves no choice.
    """
    target = real_path(scan.parent) / scan.name
    try:
        return Path(os.path.relpath(target, real_path(folder))).as_posix()
    except ValueError:
        return target.as_posix()


def _withdraw(out: Path, dataset: str, sites: Collection[str]) -> None:
    for folder in _left_behind(out, dataset, sites):
        (folder / FILE_NAME).replace(folder / WITHDRAWN)
        logger.warning(
            "%s: site '%s' is not among these scans any more and is no longer counted; its "
            "manifest is now called %s: delete the folder, or rename the file back to count it",
            folder,
            folder.name,
            WITHDRAWN,
        )


def _left_behind(out: Path, dataset: str, sites: Collection[str]) -> Iterator[Path]:
    """Site folders of the same data set that the records have no site for."""
    for path in sorted(out.glob(f"*/{FILE_NAME}")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            of_this = content["dataset"] == dataset and content["site"] not in sites
        except (OSError, ValueError, KeyError, TypeError):
            continue  # 'check' says what is wrong with it
        if of_this:
            yield path.parent


def _are_drawn(dataset: str, records: Sequence[SubjectRecord]) -> bool:
    """Whether splits must be drawn, for all subjects or for none."""
    if not records:
        raise DataError(f"data set '{dataset}': no subject was found; correct the path")
    without = [record.subject for record in records if record.split == TO_BE_DRAWN]
    if without and len(without) < len(records):
        raise DataError(
            f"data set '{dataset}': subject '{without[0]}' has no split while others have one; "
            "give all subjects a split or none"
        )
    return bool(without)


def _with_splits(
    records: Sequence[SubjectRecord], seed: int, fractions: Fractions
) -> tuple[SubjectRecord, ...]:
    sequences: dict[str, frozenset[str]] = {}
    for record in records:
        names = frozenset(record.files)
        sequences[record.patient] = sequences.get(record.patient, names) & names
    splits = split_by_completeness(sequences, seed, fractions)
    return tuple(replace(record, split=splits[record.patient]) for record in records)
