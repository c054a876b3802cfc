"""What a preparation works on: the subjects it takes, their files, and the hash of it all."""

from __future__ import annotations

from fedi2i.digest import digest, file_digest
from fedi2i.errors import DataError
from fedi2i.typed_config import as_dict
from partitions.check.finding import Finding, refuse
from partitions.check.manifests import copies
from partitions.check.rules.data_sets import HeldScan
from partitions.check.scans import SubjectScans, open_scans, paths_of, shown_path
from partitions.check.subject import header_findings
from partitions.manifest import SPLITS, SiteManifest, SubjectRecord
from partitions.preparation.configuration import NONE, PreparationConfig

FORMAT_VERSION = 4
"""Raise it when the stored arrays change meaning, or when scans are read or refused by other rules;
old caches are then made again."""

REGISTRATION_VERSION = 2
"""Raise it when targets are laid over their sources otherwise; only caches of preparations that do
so are made again."""

ONE_GRID_RULES = ("other-grid", "nearly-one-grid")


def domains_of(record: SubjectRecord, config: PreparationConfig) -> tuple[str, ...]:
    """The domains (``source``, further ones of the source, ``target``) of a subject's scans."""
    return tuple(domain for domain in config.domains if config.sequence(domain) in record.files)


def sequences_of(config: PreparationConfig) -> tuple[str, ...]:
    """The sequences preparation reads, those of the source first."""
    return tuple(map(config.sequence, config.domains))


def used_files(record: SubjectRecord, config: PreparationConfig) -> dict[str, str]:
    """The files preparation reads for one subject, by name: images, then masks."""
    return paths_of(record, sequences_of(config))


def scan_findings(subject: SubjectScans, config: PreparationConfig) -> list[Finding]:
    """What is wrong with a subject's files as far as their headers, for this preparation.

    A target that will be laid over its source may lie on a grid of its own.
    """
    found = header_findings(subject)
    target = subject.scans.get(config.target)
    if config.registration == NONE or target is None:
        return found
    return [
        finding
        for finding in found
        if finding.rule not in ONE_GRID_RULES or finding.file != shown_path(target.file.path)
    ]


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


def file_digests(
    manifest: SiteManifest, records: tuple[SubjectRecord, ...], config: PreparationConfig
) -> dict[str, dict[str, str]]:
    """SHA-256 of every file used, by subject and name.

    Raises:
        DataError: a file is missing or cannot be read, or two persons have the same scan.
    """
    digests: dict[str, dict[str, str]] = {}
    held: list[HeldScan] = []
    for record in records:
        paths = {n: manifest.root / path for n, path in used_files(record, config).items()}
        if not all(path.is_file() for path in paths.values()):
            refuse(header_findings(open_scans(record, manifest.root, sequences_of(config))))
        digests[record.subject] = found = {n: file_digest(path) for n, path in paths.items()}
        held += [
            HeldScan(record, name, str(paths[name]), found[name], "bytes")
            for name in record.files
            if name in found
        ]
    refuse(copies(held))
    return digests


def fingerprint(
    manifest: SiteManifest, digests: dict[str, dict[str, str]], config: PreparationConfig
) -> str:
    """SHA-256 over the manifest, the bytes of all files used, the configuration and the format.

    It does not depend on where the folder lies, so a moved site folder keeps its cache.

    Args:
        manifest: the site.
        digests: see `file_digests`.
        config: how the subjects will be prepared.
    """
    known = {
        "format": FORMAT_VERSION,
        "manifest": manifest.content_hash(),
        "config": as_dict(config),
        "files": digests,
    }
    if config.registration != NONE:
        known["registration"] = REGISTRATION_VERSION
    return digest(known)


def _is_usable(record: SubjectRecord, config: PreparationConfig) -> bool:
    found = domains_of(record, config)
    one_is_enough = config.pairing == "unpaired" and record.split == "train"
    # Of several contrasts of the source any one will do.
    return bool(found) if one_is_enough else "target" in found and len(found) > 1


def _lacking(record: SubjectRecord, config: PreparationConfig) -> list[str]:
    """The sequences for whose lack a subject is left out."""
    sources = list(config.contrasts.values())
    has_source = any(name in record.files for name in sources)
    needed = [*([] if has_source else sources), config.target]
    return [name for name in needed if name not in record.files]


def _nobody(manifest: SiteManifest, config: PreparationConfig) -> str:
    known = sorted({name for record in manifest.subjects for name in record.files})
    what = f"both '{config.source}' and '{config.target}'"
    if config.further_sources:
        one = ", ".join(f"'{name}'" for name in config.contrasts.values())
        what = f"'{config.target}' and one of {one}"
    if config.pairing == "unpaired":
        what += ", and no training subject has one of them"
    return (
        f"{manifest.root}: no subject of site '{manifest.site}' has {what}; "
        f"sequences here: {', '.join(known) or 'none'}"
    )
