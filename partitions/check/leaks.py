"""No subject at two sites, and nothing of a patient in two splits."""

from __future__ import annotations

from collections.abc import Iterable

from fedi2i.errors import DataError
from partitions.manifest import SiteManifest, SubjectRecord


def check_partition(manifests: Iterable[SiteManifest]) -> None:
    """Refuse a subject that two sites hold, and a patient or scan that is in two splits.

    A patient may have several scans (``patient_id`` in the metadata); what a model has trained on
    must not be what it is tested on.

    Raises:
        DataError: naming the subjects and both sites or splits.
    """
    found = list(manifests)
    _check_owners(found)
    _check_leaks(found)


def _check_leaks(manifests: Iterable[SiteManifest]) -> None:
    seen: dict[str, SubjectRecord] = {}
    for manifest in manifests:
        for record in manifest.subjects:
            scans = (f"scan '{(manifest.root / path).resolve()}'" for path in record.files.values())
            for what in (f"patient '{record.patient}' of site '{record.site}'", *scans):
                first = seen.setdefault(what, record)
                if first.split != record.split:
                    raise DataError(
                        f"{what} is in split '{first.split}' (subject '{first.subject}', site "
                        f"'{first.site}') and in '{record.split}' (subject '{record.subject}', "
                        f"site '{record.site}'); keep a patient in one split"
                    )


def _check_owners(manifests: Iterable[SiteManifest]) -> None:
    owner: dict[str, str] = {}
    for manifest in manifests:
        for record in manifest.subjects:
            if record.subject in owner:
                raise DataError(
                    f"subject '{record.subject}' is at site '{owner[record.subject]}' and at site "
                    f"'{manifest.site}'; a subject belongs to one site"
                )
            owner[record.subject] = manifest.site
