"""Prepare one site: find the cache, or make it subject by subject."""

from __future__ import annotations

import json
import logging
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from fedi2i.errors import DataError
from fedi2i.files import write_text
from fedi2i.typed_config import as_dict
from partitions.check.finding import WARNING, refuse
from partitions.check.manifests import copies
from partitions.check.rules.data_sets import HeldScan
from partitions.check.scans import open_scans
from partitions.manifest import SPLITS, SiteManifest, SubjectRecord
from partitions.preparation.assembly import assemble_split
from partitions.preparation.cache_folders import SUBJECT_FILES, lock_of
from partitions.preparation.configuration import PreparationConfig
from partitions.preparation.disk_space import write_failure
from partitions.preparation.inputs import (
    FORMAT_VERSION,
    file_digests,
    fingerprint,
    scan_findings,
    sequences_of,
    usable_subjects,
)
from partitions.preparation.prepared import RECORD_NAME, PreparedSite, open_prepared
from partitions.preparation.subject_file import SubjectFacts, SubjectFile

logger = logging.getLogger(__name__)


def prepare_site(
    manifest: SiteManifest,
    config: PreparationConfig,
    cache: Path,
    progress: bool = True,
) -> PreparedSite:
    """Return the site's prepared cache, making it first when scans or configuration changed.

    Nothing is fitted outside the site: a volume is scaled by its own voxels or by a fixed window. A
    second process that prepares the same site waits for the first and then opens its result.

    Args:
        manifest: the site; its ``root`` holds the scans.
        config: how to prepare.
        cache: folder for caches; this one becomes ``<cache>/<first 12 digits of its hash>``.
        progress: show a progress bar on standard error.

    Raises:
        DataError: a scan is missing or unusable, no subject has what is needed, or the cache
            cannot be written. Subjects already prepared are kept for the next attempt.
    """
    records, skipped, content_hash = _identify(manifest, config)
    folder = cache / content_hash[:12]
    if (folder / RECORD_NAME).is_file():
        return _opened(folder, manifest)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(lock_of(folder)):
            if not (folder / RECORD_NAME).is_file():
                facts = _facts(manifest, config, content_hash, skipped)
                _log_skipped(manifest.site, skipped)
                if config.further_sources:
                    _log_unheld(manifest.site, records, config)
                _prepare(records, manifest.root, config, folder, facts, progress)
    except OSError as error:
        raise write_failure(error, cache, manifest.root, records, config) from error
    return _opened(folder, manifest)


def find_prepared(
    manifest: SiteManifest, config: PreparationConfig, cache: Path
) -> PreparedSite | None:
    """The site's cache if it is up to date, else None; nothing is prepared."""
    content_hash = _identify(manifest, config)[2]
    folder = cache / content_hash[:12]
    return _opened(folder, manifest) if (folder / RECORD_NAME).is_file() else None


def _opened(folder: Path, manifest: SiteManifest) -> PreparedSite:
    """The cache, with the way to its scans."""
    return replace(open_prepared(folder), manifest=manifest)


def _identify(
    manifest: SiteManifest, config: PreparationConfig
) -> tuple[tuple[SubjectRecord, ...], dict[str, list[str]], str]:
    """The subjects to prepare, those left out, and the hash of what will be prepared."""
    if not manifest.root.is_dir():
        raise DataError(f"{manifest.root}: no such data folder; correct this site's data mapping")
    records, skipped = usable_subjects(manifest, config)
    digests = file_digests(manifest, records, config)
    return records, skipped, fingerprint(manifest, digests, config)


def _log_skipped(site: str, skipped: Mapping[str, list[str]]) -> None:
    for subject, names in skipped.items():
        logger.warning(
            "%s: subject '%s' has no %s; left out", site, subject, " and no ".join(names)
        )


def _log_unheld(site: str, records: Iterable[SubjectRecord], config: PreparationConfig) -> None:
    """Say which of several contrasts of the source nobody has; a name may be misspelt."""
    held = {name for record in records for name in record.files}
    for name in config.contrasts.values():
        if name not in held:
            logger.warning("%s: no subject has %s; it is missing for all of them", site, name)


def _lock(path: Path) -> FileLock:
    """The lock of one cache; the operating system frees it when the process ends in any way."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
        lock.release()
    except Timeout:
        logger.info("%s: another process prepares this site; waiting", path.name)
    return lock


def _facts(
    manifest: SiteManifest,
    config: PreparationConfig,
    content_hash: str,
    skipped: Mapping[str, list[str]],
) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION,
        "dataset": manifest.dataset,
        "site": manifest.site,
        "computed": manifest.computed,
        "content_hash": content_hash,
        "manifest_hash": manifest.content_hash(),
        "config": as_dict(config),
        "skipped": dict(skipped),
    }


def _prepare(
    records: tuple[SubjectRecord, ...],
    root: Path,
    config: PreparationConfig,
    folder: Path,
    facts: dict[str, Any],
    progress: bool,
) -> None:
    # Imported here, as opening an existing cache should not wait seconds for MONAI.
    from partitions.preparation.subject import prepare_subject

    _check_headers(records, root, config)
    subjects = [
        SubjectFile(record, folder / SUBJECT_FILES / f"{number:06d}.npz")
        for number, record in enumerate(records)
    ]
    for leftover in folder.rglob(".writing-*"):  # of a process that was killed while writing
        leftover.unlink()
    label = f"preparing {facts['site']}"
    for subject in tqdm(subjects, desc=label, unit="subject", disable=not progress):
        if subject.read() is None:
            subject.write(prepare_subject(subject.record, root, config))
    known = [(file.record, found) for file in subjects if (found := file.read_facts()) is not None]
    refuse(copies(_held_scans(known, root)))
    _log_warnings(facts["site"], [found for _, found in known])
    splits = {
        name: assemble_split(
            [subject for subject in subjects if subject.record.split == name],
            folder / name,
            config.size,
            list(config.contrasts)[1:],
        )
        for name in SPLITS
    }
    write_text(folder / RECORD_NAME, json.dumps({**facts, "splits": splits}, indent=1) + "\n")
    shutil.rmtree(folder / SUBJECT_FILES)


def _check_headers(
    records: tuple[SubjectRecord, ...], root: Path, config: PreparationConfig
) -> None:
    """Refuse the site before anything is prepared, if that takes no more than headers."""
    refuse(
        finding
        for record in records
        for finding in scan_findings(open_scans(record, root, sequences_of(config)), config)
    )


def _held_scans(
    known: Iterable[tuple[SubjectRecord, SubjectFacts]], root: Path
) -> Iterator[HeldScan]:
    """The images that were read, by the digest of their voxels."""
    for record, facts in known:
        for name, found in facts.digests.items():
            yield HeldScan(record, name, str(root / record.files[name]), found, "voxels")


def _log_warnings(site: str, facts: Iterable[SubjectFacts]) -> None:
    """One line per rule, as a fault of a scanner or a converter is in hundreds of files."""
    by_rule: dict[str, list[dict[str, str]]] = defaultdict(list)
    for one in facts:
        for finding in one.findings:
            if finding["severity"] == WARNING:
                by_rule[finding["rule"]].append(finding)
    for findings in by_rule.values():
        others = len(findings) - 1
        more = f" (and {others} more file{'s' if others > 1 else ''})" if others else ""
        logger.warning(
            "%s: %s: %s%s; 'fedi2i data check' says what to do",
            site,
            findings[0]["file"],
            findings[0]["sentence"],
            more,
        )
