"""The scans of one subject as far as their headers, for the rules to look at."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from partitions.check.finding import Place
from partitions.manifest import LESION_VALUES, MASK_VALUES, SubjectRecord
from partitions.scans.header import ScanFile, ScanHeader, read_scan_file
from partitions.scans.mask import MaskValues, mask_values
from partitions.scans.volume import Volume

MASK = "mask"
LESION = "lesion_mask"
_DECLARED = {MASK: MASK_VALUES, LESION: LESION_VALUES}


@dataclass(frozen=True)
class SubjectScan:
    """One file of a subject.

    Attributes:
        record: the subject.
        name: its sequence, ``mask`` or ``lesion_mask``.
        file: the file as far as its header.
    """

    record: SubjectRecord
    name: str
    file: ScanFile

    @property
    def is_mask(self) -> bool:
        """Whether it is a mask and no image."""
        return self.name in _DECLARED

    @property
    def header(self) -> ScanHeader | None:
        """Its header, if the file has one and its voxels can follow."""
        return None if self.file.fault else self.file.header

    @property
    def declared(self) -> str:
        """What the metadata say about a mask's values, or ""."""
        return str(self.record.metadata.get(_DECLARED.get(self.name, ""), ""))

    @property
    def values(self) -> MaskValues:
        """What the values of a mask mean."""
        return mask_values(self.declared) or MaskValues()

    @property
    def place(self) -> Place:
        """What findings about it name."""
        return Place(self.record.site, self.record.subject, shown_path(self.file.path))


@dataclass(frozen=True)
class SubjectScans:
    """The files of one subject, images before masks.

    Attributes:
        record: the subject.
        scans: by name; the first image is what the others are compared with.
    """

    record: SubjectRecord
    scans: Mapping[str, SubjectScan]

    @property
    def images(self) -> list[SubjectScan]:
        """The scans that are no masks."""
        return [scan for scan in self.scans.values() if not scan.is_mask]

    @property
    def place(self) -> Place:
        """What findings about it name."""
        return Place(self.record.site, self.record.subject)


@dataclass(frozen=True)
class ScanVoxels:
    """One file of a subject with its voxels."""

    scan: SubjectScan
    volume: Volume


@dataclass(frozen=True)
class SubjectVoxels:
    """The files of one subject that could be read, with their voxels.

    Attributes:
        record: the subject.
        scans: by name, in the order of `SubjectScans`.
        digests: SHA-256 of the voxels by name.
    """

    record: SubjectRecord
    scans: Mapping[str, ScanVoxels]
    digests: Mapping[str, str]


def shown_path(path: Path) -> str:
    """A path as a person would write it: without steps back, where that leads to the same file."""
    plain = Path(os.path.normpath(path))
    try:
        return str(plain if plain.samefile(path) else path)
    except OSError:
        return str(path)


def paths_of(record: SubjectRecord, sequences: Collection[str] | None = None) -> dict[str, str]:
    """The files of a subject by name, as the manifest gives them: images, then masks.

    Args:
        record: the subject.
        sequences: the sequences to take, in this order; None for all.
    """
    wanted = record.files if sequences is None else sequences
    paths = {name: record.files[name] for name in wanted if name in record.files}
    masks = {MASK: record.mask, LESION: record.lesion_mask}
    return paths | {name: path for name, path in masks.items() if path is not None}


def open_scans(
    record: SubjectRecord, root: Path, sequences: Collection[str] | None = None
) -> SubjectScans:
    """Read the headers of a subject's files (see `paths_of`)."""
    return SubjectScans(
        record,
        {
            name: SubjectScan(record, name, read_scan_file(root / path))
            for name, path in paths_of(record, sequences).items()
        },
    )
