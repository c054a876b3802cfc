"""Scans on their voxel grids: read one, compare two, resample and cut in the plane of slices."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.croppad.array import SpatialCrop, SpatialPad
from monai.transforms.io.array import LoadImage
from monai.transforms.spatial.array import Orientation, Spacing
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from fedi2i.errors import DataError

GRID_TOLERANCE_MM = 1e-3
_CHUNK = 1 << 22
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zlib.error, ImageFileError, HeaderDataError)


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
    affine: NDArray[np.float64]

    def voxel_size(self) -> tuple[float, float, float]:
        """Voxel edge lengths in mm along (x, y, z)."""
        x, y, z = (float(edge) for edge in np.linalg.norm(self.affine[:3, :3], axis=0))
        return x, y, z


def read_volume(path: Path) -> Volume:
    """Read one NIfTI file and turn its axes to LPS (see `Volume`).

    Raises:
        DataError: the file is missing, damaged, not 3-D, or holds NaN or infinite voxels.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; copy it there or correct the manifest")
    try:
        _check_compression(path)
        loaded = LoadImage(reader="NibabelReader", image_only=True, ensure_channel_first=True)(path)
    except _DAMAGE as error:
        raise DataError(
            f"{path}: damaged or not a NIfTI file ({_last_line(error)}); copy it again from its "
            "source"
        ) from error
    image = _three_dimensional(loaded, path)
    turned: Any = Orientation(axcodes="LPS", labels=None)(image)
    data = np.asarray(turned[0].numpy(), dtype=np.float32)
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise DataError(
            f"{path}: {bad} of {data.size} voxels are NaN or infinite; repair or leave out this "
            "subject"
        )
    return Volume(path, data, np.asarray(turned.affine.numpy(), dtype=np.float64))


def check_same_grid(volume: Volume, reference: Volume) -> None:
    """Refuse two scans whose voxels do not lie at the same positions.

    Raises:
        DataError: the shapes differ, or the affines by more than 1e-3 mm.
    """
    if volume.data.shape != reference.data.shape:
        what = f"shape {volume.data.shape} against {reference.data.shape}"
    elif not np.allclose(volume.affine, reference.affine, rtol=0, atol=GRID_TOLERANCE_MM):
        difference = float(np.abs(volume.affine - reference.affine).max())
        what = f"affines differ by {difference:.3g} mm"
    else:
        return
    raise DataError(
        f"{volume.path}: not on the voxel grid of {reference.path.name} ({what}); register and "
        "resample both to one grid first"
    )


def resample(
    data: NDArray[np.float32], affine: NDArray[np.float64], spacing: float | None, mode: str
) -> NDArray[np.float32]:
    """Resample the first two axes to ``spacing`` mm; the third keeps its slices.

    Args:
        data: axes (x, y, z).
        affine: 4x4, voxel index to mm.
        spacing: wanted pixel size in mm; None returns ``data`` unchanged.
        mode: ``bilinear`` for images, ``nearest`` for masks.
    """
    if spacing is None:
        return data
    image = MetaTensor(torch.from_numpy(data[np.newaxis].copy()), affine=torch.from_numpy(affine))
    # A pixel size of -1 means "keep" to MONAI's Spacing.
    transform = Spacing(pixdim=(spacing, spacing, -1.0), mode=mode, padding_mode="border")
    return np.asarray(transform(image)[0].numpy(), dtype=np.float32)


def cut_to_size(
    data: NDArray[np.float32], mask: NDArray[np.bool_], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Crop and zero-pad the first two axes, centred on the mask so that heads are not cut.

    Args:
        data: axes (x, y, z).
        mask: the same shape, not empty; its bounding box gives the centre.
        size: rows (y) and columns (x) of the result.

    Returns:
        Shape (columns, rows, z).
    """
    rows, columns = size
    window = (columns, rows, data.shape[2])
    centre = [(low + high + 1) // 2 for low, high in (_extent(mask, axis) for axis in (0, 1))]
    crop = SpatialCrop(roi_center=[*centre, data.shape[2] // 2], roi_size=window)
    padded = SpatialPad(spatial_size=window)(crop(torch.from_numpy(data[np.newaxis].copy())))
    return np.asarray(padded[0].numpy(), dtype=np.float32)


def mask_loss(whole: NDArray[np.bool_], cut: NDArray[np.bool_]) -> tuple[float, tuple[int, int]]:
    """The part of the mask that was cut off, and the (columns, rows) that would hold all of it."""
    loss = 1.0 - int(cut.sum()) / max(int(whole.sum()), 1)
    columns, rows = (high - low + 1 for low, high in (_extent(whole, axis) for axis in (0, 1)))
    return loss, (columns, rows)


def _three_dimensional(image: MetaTensor, path: Path) -> MetaTensor:
    """Drop a trailing axis of length one; refuse anything that is not one volume."""
    spatial = tuple(image.shape[1:])
    if image.shape[0] != 1 or len(spatial) != 3:
        shape = (*spatial, image.shape[0]) if image.shape[0] != 1 else spatial
        raise DataError(f"{path}: has shape {shape}; give one 3-D volume per file")
    return image


def _check_compression(path: Path) -> None:
    """Read a .gz to its end: its checksum is there, and decoders stop before it."""
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            while stream.read(_CHUNK):
                pass


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _extent(mask: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    """First and last index along one axis where the mask is set."""
    others = tuple(other for other in range(mask.ndim) if other != axis)
    hit = np.flatnonzero(mask.any(axis=others))
    return int(hit[0]), int(hit[-1])
