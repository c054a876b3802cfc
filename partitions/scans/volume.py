"""The voxels of one scan, its axes turned to one direction."""

from __future__ import annotations

import gzip
import hashlib
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import logger as nibabel_log
from nibabel.nifti1 import Nifti1Image
from nibabel.nifti2 import Nifti2Image
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from partitions.scans.grid import Affine, Grid, to_lps, turned
from partitions.scans.header import ScanFile, reason_of
from partitions.scans.itk import ITK, read_itk_voxels

_DAMAGE = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError)


class DamagedScanError(Exception):
    """The voxels of a file cannot be read, although its header can; holds the reason."""


@dataclass(frozen=True)
class Volume:
    """One scan, axes (x, y, z) running right to left, anterior to posterior, inferior to superior.

    Attributes:
        path: the file it came from, for error messages.
        data: intensities as stored, scale factors applied.
        affine: 4x4, voxel index to position in mm.
    """

    path: Path
    data: NDArray[np.float32]
    affine: Affine

    def grid(self) -> Grid:
        """Where the voxels lie."""
        x, y, z = self.data.shape
        return Grid((x, y, z), self.affine)

    def voxel_size(self) -> tuple[float, float, float]:
        """Voxel edge lengths in mm along (x, y, z)."""
        return self.grid().edges()

    def digest(self) -> str:
        """SHA-256 of the voxels; the same for a copy in another orientation or type."""
        found = hashlib.sha256(repr(self.data.shape).encode())
        found.update(np.ascontiguousarray(self.data).data.cast("B"))
        return found.hexdigest()


def read_volume(file: ScanFile) -> Volume:
    """Read the voxels of a file whose header can be used, and turn its axes (see `Volume`).

    A compressed file is read to its end, where its checksum is.

    Raises:
        DamagedScanError: what is in the file cannot be read.
    """
    header = file.header
    grid = header.grid if header is not None else None
    if grid is None:
        raise DamagedScanError("it holds no volume with usable axes")
    try:
        data = _voxels(file.path).reshape(grid.shape)
    except _DAMAGE as error:
        raise DamagedScanError(reason_of(error)) from error
    turn, turned_grid = to_lps(grid)
    return Volume(file.path, np.ascontiguousarray(turned(data, turn)), turned_grid.affine)


def _voxels(path: Path) -> NDArray[np.float32]:
    """All voxels, as float32 after scaling in the precision that nibabel chooses."""
    if path.suffix.lower() in ITK:
        return read_itk_voxels(path)
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            content = stream.read()
    else:
        content = path.read_bytes()
    kind: Any = Nifti2Image if content[4:8] == b"n+2\0" else Nifti1Image
    with _quiet():
        image = kind.from_bytes(content)
    voxels: NDArray[np.float32] = np.asanyarray(image.dataobj).astype(np.float32)
    return voxels


@contextmanager
def _quiet() -> Iterator[None]:
    """Nibabel repairs headers and says so without the file's name; the rules name the file."""
    before = nibabel_log.level
    nibabel_log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        nibabel_log.setLevel(before)
