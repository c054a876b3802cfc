"""Take one patient out of a site folder: rows of the manifest, prepared slices, copies of scans.

Prepared slices of all patients lie in the same arrays. A cache that holds the patient goes as a
whole, and the next job prepares the others again from their scans, to the same values. Whatever
interrupts a withdrawal, the same command finishes it: the patient is on the folder's list before
the manifest forgets them, and caches name whom they hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError
from fedi2i.typed_config import nearest
from partitions.manifest import (
    PATIENT_ID,
    SiteManifest,
    SubjectRecord,
    read_manifest,
    write_manifest,
)
from partitions.preparation.cache_folders import half_removed, is_cache, nobody_uses, remove_folder
from partitions.preparation.prepared import RECORD_NAME
from partitions.withdrawn_patients import read_withdrawn, write_withdrawn


class UnknownPatientError(DataError):
    """A site folder has nobody, and had nobody, of this name."""


@dataclass(frozen=True)
class Holding:
    """What a site folder holds of a patient.

    Attributes:
        manifest: of the site.
        patient: the patient's name, as the manifest has it.
        subjects: the patient's rows in the manifest; none after a withdrawal.
        caches: folders of prepared slices with the patient, or unfinished ones, which do not say
            whom they hold.
        copies: the patient's scans inside the site folder, which no other subject names.
        elsewhere: the patient's scans that lie outside it or that others use, too.
        withdrawn: the day of an earlier withdrawal, or None.
    """

    manifest: SiteManifest
    patient: str
    subjects: tuple[SubjectRecord, ...]
    caches: tuple[Path, ...]
    copies: tuple[Path, ...]
    elsewhere: tuple[Path, ...]
    withdrawn: str | None

    @property
    def names(self) -> frozenset[str]:
        """The patient's name and those of their scans."""
        return frozenset({self.patient, *(record.subject for record in self.subjects)})


def holding_of(folder: Path, patient: str, cache_roots: Sequence[Path]) -> Holding:
    """Find everything that a site folder holds of a patient; nothing is changed.

    Args:
        folder: the site folder.
        patient: ``patient_id`` of the patient's subjects, or the subject's name without one.
        cache_roots: the folders of the site's caches.

    Raises:
        UnknownPatientError: nobody is called like that; the sentence has the nearest name.
        DataError: the folder cannot be used.
    """
    manifest = read_manifest(folder)
    subjects = tuple(record for record in manifest.subjects if record.patient == patient)
    withdrawn = read_withdrawn(folder).day(patient)
    if not subjects and withdrawn is None:
        raise UnknownPatientError(_nobody(manifest, patient))
    caches = tuple(
        cache
        for root in cache_roots
        for cache in sorted(root.glob("*"))
        if is_cache(cache) and _may_hold(cache, manifest, patient, subjects)
    )
    inside, elsewhere = _scans(manifest, subjects)
    return Holding(manifest, patient, subjects, caches, inside, elsewhere, withdrawn)


def withdraw(holding: Holding, with_copies: bool, cache_roots: Sequence[Path]) -> None:
    """Take the patient out; all is checked before anything is changed.

    Args:
        holding: what there is.
        with_copies: whether the scans inside the site folder go, too.
        cache_roots: the folders of the site's caches, where an interrupted withdrawal may have left
            something.

    Raises:
        DataError: a job is using a cache.
        OSError: this account may not change something; the command can be given again.
    """
    root = holding.manifest.root
    with ExitStack() as unused:
        for cache in holding.caches:
            unused.enter_context(nobody_uses(cache))
        if with_copies:
            for path in holding.copies:
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, root)
        write_withdrawn(root, read_withdrawn(root).with_patient(holding.patient))
        if holding.subjects:
            gone = holding.names
            kept = tuple(r for r in holding.manifest.subjects if r.subject not in gone)
            write_manifest(replace(holding.manifest, subjects=kept))
        for cache in holding.caches:
            remove_folder(cache)
        for cache_root in cache_roots:
            for left in half_removed(cache_root):
                remove_folder(left)


def _nobody(manifest: SiteManifest, patient: str) -> str:
    where = f"{manifest.root}: site '{manifest.site}'"
    (owner, *_) = [r.patient for r in manifest.subjects if r.subject == patient] or [""]
    if owner:
        return (
            f"{where} has '{patient}' as a scan of patient '{owner}'; withdraw the patient, or "
            "take the one scan out of the table and import it again"
        )
    known = {record.patient for record in manifest.subjects}
    return f"{where} has no patient '{patient}'; {nearest(patient, known)}"


def _may_hold(
    cache: Path, manifest: SiteManifest, patient: str, subjects: tuple[SubjectRecord, ...]
) -> bool:
    path = cache / RECORD_NAME
    if not path.is_file():
        return True
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["site"], content["dataset"]) != (manifest.site, manifest.dataset):
            return False
        held = set(_patients(content))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True
    return bool(held & {patient, *(record.subject for record in subjects)})


def _patients(content: dict[str, Any]) -> Iterator[str]:
    """Everybody a cache's record names, by patient and by subject."""
    yield from map(str, content["skipped"])
    for split in content["splits"].values():
        for entry in split["subjects"]:
            yield str(entry["subject"])
            yield str(entry["metadata"].get(PATIENT_ID) or entry["subject"])


def _scans(
    manifest: SiteManifest, subjects: tuple[SubjectRecord, ...]
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The subjects' files: copies of the site folder's own, and all others."""
    root = manifest.root.resolve()
    others = {
        path.resolve()
        for record in manifest.subjects
        if record not in subjects
        for path in _files(record, manifest.root)
    }
    inside: list[Path] = []
    elsewhere: list[Path] = []
    for path in sorted({p for record in subjects for p in _files(record, manifest.root)}):
        # A link is as good as another place: what it leads to is not the folder's own.
        own = path.parent.resolve().is_relative_to(root) and not path.is_symlink()
        (inside if own and path.resolve() not in others else elsewhere).append(path)
    return tuple(inside), tuple(elsewhere)


def _files(record: SubjectRecord, root: Path) -> Iterator[Path]:
    for path in (*record.files.values(), record.mask, record.lesion_mask):
        if path is not None:
            yield root / path


def _remove_empty(folder: Path, root: Path) -> None:
    """Take away the folders that a removed scan leaves empty."""
    while folder != root and folder.is_relative_to(root) and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
