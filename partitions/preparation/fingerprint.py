"""The hash that names a prepared cache: same scans and same configuration, same hash."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fedi2i.digest import digest, file_digest
from fedi2i.errors import DataError
from partitions.manifest import SiteManifest, SubjectRecord
from partitions.preparation.configuration import PreparationConfig
from partitions.preparation.usable_subjects import domains_of

FORMAT_VERSION = 2
"""Raise it when the stored arrays change meaning; old caches are then made again."""


def fingerprint(
    manifest: SiteManifest, records: tuple[SubjectRecord, ...], config: PreparationConfig
) -> str:
    """SHA-256 over the manifest, the bytes of all files used, the configuration and the format.

    It does not depend on where the folder lies, so a moved site folder keeps its cache.

    Args:
        manifest: the site.
        records: the subjects that will be prepared.
        config: how they will be prepared.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    content = {
        "format": FORMAT_VERSION,
        "manifest": manifest.content_hash(),
        "config": asdict(config),
        "files": {
            record.subject: [
                _file_digest(manifest.root / path) for path in used_files(record, config)
            ]
            for record in records
        },
    }
    return digest(content)


def used_files(record: SubjectRecord, config: PreparationConfig) -> tuple[str, ...]:
    """The files preparation reads for one subject."""
    scans = (record.files[config.sequence(domain)] for domain in domains_of(record, config))
    masks = (record.mask, record.lesion_mask)
    return (*scans, *(path for path in masks if path is not None))


def _file_digest(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: no such file; copy it there or correct the manifest")
    return file_digest(path)
