"""What a preparation works on: the subjects it takes, their files, and the hash of it all."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fedi2i.digest import digest, file_digest
from fedi2i.errors import DataError
from partitions.manifest import SPLITS, SiteManifest, SubjectRecord
from partitions.preparation.configuration import DOMAINS, PreparationConfig

FORMAT_VERSION = 2
"""Raise it when the stored arrays change meaning; old caches are then made again."""


def domains_of(record: SubjectRecord, config: PreparationConfig) -> tuple[str, ...]:
    """The domains (``source``, ``target``) in which a subject has a scan."""
    return tuple(domain for domain in DOMAINS if config.sequence(domain) in record.files)


def used_files(record: SubjectRecord, config: PreparationConfig) -> tuple[str, ...]:
    """The files preparation reads for one subject."""
    scans = (record.files[config.sequence(domain)] for domain in domains_of(record, config))
    masks = (record.mask, record.lesion_mask)
    return (*scans, *(path for path in masks if path is not None))


def usable_subjects(
    manifest: SiteManifest, config: PreparationConfig
) -> tuple[tuple[SubjectRecord, ...], dict[str, list[str]]]:
    """The subjects to prepare, by split and name; and the others with the sequences they lack.

    Raises:
        DataError: no subject can be used.
    """
    ordered = sorted(
        manifest.subjects, key=lambda record: (SPLITS.index(record.split), record.subject)
    )
    usable = tuple(record for record in ordered if _is_usable(record, config))
    if not usable:
        raise DataError(_nobody(manifest, config))
    left_out = {
        record.subject: _lacking(record, config)
        for record in manifest.subjects
        if not _is_usable(record, config)
    }
    return usable, dict(sorted(left_out.items()))


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


def _is_usable(record: SubjectRecord, config: PreparationConfig) -> bool:
    found = domains_of(record, config)
    one_is_enough = config.pairing == "unpaired" and record.split == "train"
    return bool(found) if one_is_enough else found == DOMAINS


def _lacking(record: SubjectRecord, config: PreparationConfig) -> list[str]:
    return [name for name in map(config.sequence, DOMAINS) if name not in record.files]


def _nobody(manifest: SiteManifest, config: PreparationConfig) -> str:
    known = sorted({name for record in manifest.subjects for name in record.files})
    what = f"both '{config.source}' and '{config.target}'"
    if config.pairing == "unpaired":
        what += ", and no training subject has one of them"
    return (
        f"{manifest.root}: no subject of site '{manifest.site}' has {what}; "
        f"sequences here: {', '.join(known) or 'none'}"
    )


def _file_digest(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: no such file; copy it there or correct the manifest")
    return file_digest(path)
