"""Which subjects of a site are prepared, and in which domains they have a scan."""

from __future__ import annotations

from fedi2i.errors import DataError
from partitions.manifest import SPLITS, SiteManifest, SubjectRecord
from partitions.preparation.configuration import DOMAINS, PreparationConfig


def domains_of(record: SubjectRecord, config: PreparationConfig) -> tuple[str, ...]:
    """The domains (``source``, ``target``) in which a subject has a scan."""
    return tuple(domain for domain in DOMAINS if config.sequence(domain) in record.files)


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
