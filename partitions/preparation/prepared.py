"""A prepared site as training sees it: arrays mapped into memory, and who they belong to."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from fedi2i.typed_config import choose, record_from
from partitions.manifest import PATIENT_ID, SPLITS, SiteManifest
from partitions.preparation.configuration import DOMAINS, PreparationConfig
from partitions.preparation.grids.native_grid import SliceGeometry, geometry_from
from partitions.preparation.inputs import FORMAT_VERSION
from partitions.preparation.intensities import Scale

RECORD_NAME = "prepared.json"


@dataclass(frozen=True)
class PreparedSubject:
    """Where one subject's slices lie in the arrays of its split.

    Attributes:
        subject: identifier, as in the manifest.
        start: first slice.
        stop: one past the last slice.
        spacing: row height, column width and slice distance in mm, or None when unknown.
        domains: ``source`` and ``target``, or the one that was acquired; in the other one the
            arrays hold zeros that mean nothing.
        metadata: age, sex, manufacturer ... as the manifest gives them.
        geometry: where the slices lie in the scan; None for slices that were cut from none.
        scales: the scale of each domain, by which its intensities have a unit again.
        contrasts: the sequences of the source that were acquired, where preparation reads several.
    """

    subject: str
    start: int
    stop: int
    spacing: tuple[float, float, float] | None
    metadata: dict[str, Any]
    domains: tuple[str, ...] = DOMAINS
    geometry: SliceGeometry | None = None
    scales: Mapping[str, Scale] = field(default_factory=dict)
    contrasts: tuple[str, ...] = ()

    @property
    def patient(self) -> str:
        """The person, where one person has several scans; see ``SubjectRecord.patient``."""
        return str(self.metadata.get(PATIENT_ID) or self.subject)

    @property
    def heights(self) -> tuple[int, ...]:
        """Which slices of the scan these are, from the feet; preparation may leave some out."""
        if self.geometry is None:
            return tuple(range(self.stop - self.start))
        return self.geometry.kept


@dataclass(frozen=True)
class PreparedSplit:
    """The slices of one split, subject after subject; all arrays are read-only maps of files.

    Attributes:
        source: uint16 (slices, rows, columns); a value / 65535 is the intensity in [0, 1]. Zeros
            for subjects without a source scan, see ``PreparedSubject.domains``. Of several
            contrasts it is the first that the subject has: to look at, and for all that needs one
            image; what a generator is shown is read by `contrasts_at`.
        target: as ``source``.
        mask: uint8, 0 or 1, the same shape.
        lesion: as ``mask``, 0 for subjects without a lesion mask; None when no subject has one.
        subjects: in the order of the slices, without gaps.
        pair: the sequences that source and target are, as the manifest names them.
        contrasts: the sequences that the source is, in the order of a generator's channels; empty
            where it is one.
        further: as ``source``, an array for each of ``contrasts`` but the first; zeros where a
            subject lacks it.
    """

    source: NDArray[np.uint16]
    target: NDArray[np.uint16]
    mask: NDArray[np.uint8]
    lesion: NDArray[np.uint8] | None
    subjects: tuple[PreparedSubject, ...]
    pair: tuple[str, str] = ("", "")
    contrasts: tuple[str, ...] = ()
    further: tuple[NDArray[np.uint16], ...] = ()

    def present(self, subject: PreparedSubject) -> NDArray[np.bool_]:
        """Which of the contrasts a subject has, (contrasts,)."""
        return np.array([name in subject.contrasts for name in self.contrasts])

    def contrasts_at(self, where: int | slice, subject: PreparedSubject) -> NDArray[np.uint16]:
        """All contrasts of some slices of one subject: (contrasts, ...); zeros where one lacks.

        Args:
            where: which slices, counted from the split's first.
            subject: whose they are.
        """
        first = self.source[where]
        if self.contrasts[0] not in subject.contrasts:
            first = np.zeros_like(first)  # the array holds another contrast in its place
        return np.stack([first, *(array[where] for array in self.further)])

    def slices_with(self, domains: Collection[str]) -> NDArray[np.intp]:
        """The slices of the subjects that have all of these domains, in rising order."""
        spans = [
            np.arange(subject.start, subject.stop)
            for subject in self.subjects
            if set(domains) <= set(subject.domains)
        ]
        return np.concatenate([np.zeros(0, dtype=np.intp), *spans])


@dataclass(frozen=True)
class PreparedSite:
    """One site's cache.

    Attributes:
        site: the site's name.
        dataset: the data set's name.
        computed: True when the scans are computed and not acquired.
        content_hash: hash over manifest, scans and configuration; names the cache folder.
        config: how the slices were made.
        skipped: subjects left out because a sequence is missing, with the missing sequences.
        folder: the cache folder.
        manifest: where the scans lie; None for a cache that was opened without it.
    """

    site: str
    dataset: str
    computed: bool
    content_hash: str
    config: PreparationConfig
    skipped: Mapping[str, tuple[str, ...]]
    folder: Path
    manifest: SiteManifest | None = field(default=None, compare=False, repr=False)

    def split(self, name: str) -> PreparedSplit:
        """Map the arrays of one split; a split without subjects gives arrays of no slices.

        Raises:
            DataError: the cache is damaged.
            ConfigError: ``name`` is not ``train``, ``val`` or ``test``.
        """
        choose(name, SPLITS, "split")
        content = _read_record(self.folder)["splits"][name]
        subjects = tuple(_subject_from(entry) for entry in content["subjects"])
        shape = (subjects[-1].stop if subjects else 0, *self.config.size)
        arrays = {
            array: _map_array(self.folder / name / f"{array}.npy", shape)
            for array in content["arrays"]
        }
        lesion = arrays.get("lesion")
        source, target = arrays["source"], arrays["target"]
        pair = (self.config.source, self.config.target)
        named = self.config.contrasts
        return PreparedSplit(
            source,
            target,
            arrays["mask"],
            lesion,
            subjects,
            pair,
            tuple(named.values()) if len(named) > 1 else (),
            tuple(arrays[domain] for domain in named if domain != "source"),
        )


def open_prepared(folder: Path) -> PreparedSite:
    """Open a cache folder that `prepare_site` wrote.

    Args:
        folder: the folder that holds ``prepared.json``, named by the hash.

    Raises:
        DataError: the cache is missing, unfinished, damaged or of another format version.
    """
    content = _read_record(folder)
    try:
        return PreparedSite(
            site=content["site"],
            dataset=content["dataset"],
            computed=content["computed"],
            content_hash=content["content_hash"],
            config=record_from(PreparationConfig, content["config"], str(folder / RECORD_NAME)),
            skipped={name: tuple(missing) for name, missing in content["skipped"].items()},
            folder=folder,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder / RECORD_NAME, error) from error


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD_NAME
    if not path.is_file():
        raise DataError(f"{folder}: not a finished prepared cache; run 'fedi2i data prepare'")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path}: cache format {version}, this program reads {FORMAT_VERSION}; run "
            "'fedi2i data prepare' again"
        )
    return dict(content)


def _subject_from(entry: Mapping[str, Any]) -> PreparedSubject:
    spacing = entry["spacing"]
    return PreparedSubject(
        subject=entry["subject"],
        start=entry["start"],
        stop=entry["stop"],
        spacing=None if spacing is None else (spacing[0], spacing[1], spacing[2]),
        metadata=entry["metadata"],
        domains=tuple(entry["domains"]),
        geometry=geometry_from(entry["geometry"], entry["slices"]),
        scales={domain: Scale(**values) for domain, values in entry["scales"].items()},
        contrasts=tuple(entry.get("contrasts", ())),
    )


def _map_array(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """Map one array file; an array without elements cannot be mapped and is read instead."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r" if shape[0] else None)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, error) from error
    if array.shape != shape:
        raise _damaged(path, ValueError(f"shape {array.shape}, expected {shape}"))
    return array


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: damaged ({error}); delete its folder and run 'fedi2i data prepare'")
