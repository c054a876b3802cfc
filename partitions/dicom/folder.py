"""Find the slices in a folder of DICOM files, whatever the files are called."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedi2i.errors import DataError
from partitions.dicom.slices import HEADER_TAGS, LeftOutError, Slice, slices_of

NOT_DICOM = "not DICOM"
DAMAGED = "DICOM with a damaged header"
UNREADABLE = "that this account may not read, or the disk does not give"
CLOSED = "folders that this account may not read"
LINK = "links that lead out of the folder or nowhere"
ARCHIVE = "archives: unpack them first"

_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"7z\xbc\xaf", b"Rar!", b"\xfd7zXZ")
"""How archives begin, whatever they are called."""


@dataclass(frozen=True)
class FoundSlices:
    """What a folder holds.

    Attributes:
        slices: in the order of the files' paths.
        left_out: how many files hold no slice, by reason.
    """

    slices: tuple[Slice, ...]
    left_out: Mapping[str, int]

    def left_out_text(self) -> str:
        """The counts in words, or ""."""
        return "; ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))


def read_folder(folder: Path) -> FoundSlices:
    """Read the headers of all files at or below a folder.

    Links to folders are not followed, and links to files only within the folder: an export has
    none, and what a link leads to is somebody else's. Archives are not unpacked.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        if _is_archive(folder):
            raise DataError(f"{folder}: is an archive; unpack it and give the folder")
        raise DataError(f"{folder}: no such folder of DICOM files; correct the path")
    slices: list[Slice] = []
    left_out: Counter[str] = Counter()
    for path in _files(folder, left_out):
        try:
            slices += read_slices(path, folder)
        except LeftOutError as reason:
            left_out[str(reason)] += 1
    return FoundSlices(tuple(slices), dict(left_out))


def read_slices(path: Path, folder: Path) -> tuple[Slice, ...]:
    """The slices of one file.

    Args:
        path: the file.
        folder: links must not lead out of it.

    Raises:
        LeftOutError: it holds none.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    if path.is_symlink() and not _stays(path, folder):
        raise LeftOutError(LINK)
    try:
        with in_silence():
            header = dcmread(path, stop_before_pixels=True, specific_tags=[*HEADER_TAGS])
            return slices_of(header, path)
    except LeftOutError:
        raise
    except InvalidDicomError as error:
        raise LeftOutError(ARCHIVE if _is_archive(path) else NOT_DICOM) from error
    except OSError as error:
        raise LeftOutError(UNREADABLE) from error
    except Exception as error:  # pydicom's errors about damage have no class in common
        raise LeftOutError(DAMAGED) from error


@contextmanager
def in_silence() -> Iterator[None]:
    """Pydicom repeats values that are not valid in its warnings, and they may be a patient's."""
    from pydicom import config

    with config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _files(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """All files; a folder that may not be read is counted, as nobody knows what is in it."""

    def count(_: OSError) -> None:
        left_out[CLOSED] += 1

    for place, below, names in os.walk(folder, onerror=count):
        below.sort()
        yield from (Path(place, name) for name in sorted(names))


def _stays(path: Path, folder: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # it leads nowhere, or to itself
        return False


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(6).startswith(_ARCHIVES)
    except OSError:
        return False
