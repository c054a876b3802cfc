"""Resample a volume and cut it to a size, in the plane of its slices."""

from __future__ import annotations

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.croppad.array import SpatialCrop, SpatialPad
from monai.transforms.spatial.array import Spacing
from numpy.typing import NDArray

from partitions.scans.grid import Affine


def resample(
    data: NDArray[np.float32], affine: Affine, spacing: float | None, mode: str
) -> tuple[NDArray[np.float32], Affine]:
    """Resample the first two axes to ``spacing`` mm; the third keeps its slices.

    Args:
        data: axes (x, y, z).
        affine: 4x4, voxel index to mm.
        spacing: wanted pixel size in mm; None returns ``data`` unchanged.
        mode: ``bilinear`` for images, ``nearest`` for masks.

    Returns:
        The volume, and its voxel index to mm.
    """
    if spacing is None:
        return data, affine
    image = MetaTensor(torch.from_numpy(data[np.newaxis].copy()), affine=torch.from_numpy(affine))
    # A pixel size of -1 means "keep" to MONAI's Spacing.
    transform = Spacing(pixdim=(spacing, spacing, -1.0), mode=mode, padding_mode="border")
    found = transform(image)
    return np.asarray(found[0].numpy(), dtype=np.float32), found.affine.numpy()


def cut_to_size(
    data: NDArray[np.float32], mask: NDArray[np.bool_], size: tuple[int, int]
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Crop and zero-pad the first two axes, centred on the mask so that heads are not cut.

    Args:
        data: axes (x, y, z).
        mask: the same shape, not empty; its bounding box gives the centre.
        size: rows (y) and columns (x) of the result.

    Returns:
        Shape (columns, rows, z), and which column and row of ``data`` its first ones are: negative
        where it begins with padding.
    """
    rows, columns = size
    window = (columns, rows, data.shape[2])
    centre = [(low + high + 1) // 2 for low, high in (_extent(mask, axis) for axis in (0, 1))]
    crop = SpatialCrop(roi_center=[*centre, data.shape[2] // 2], roi_size=window)
    image = MetaTensor(torch.from_numpy(data[np.newaxis].copy()), affine=torch.eye(4))
    padded = SpatialPad(spatial_size=window)(crop(image))
    first_column, first_row = (round(float(place)) for place in padded.affine[:2, 3])
    return np.asarray(padded[0].numpy(), dtype=np.float32), (first_column, first_row)


def mask_loss(whole: NDArray[np.bool_], cut: NDArray[np.bool_]) -> tuple[float, tuple[int, int]]:
    """The part of the mask that was cut off, and the (columns, rows) that would hold all of it."""
    loss = 1.0 - int(cut.sum()) / max(int(whole.sum()), 1)
    columns, rows = (high - low + 1 for low, high in (_extent(whole, axis) for axis in (0, 1)))
    return loss, (columns, rows)


def _extent(mask: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    """First and last index along one axis where the mask is set."""
    others = tuple(other for other in range(mask.ndim) if other != axis)
    hit = np.flatnonzero(mask.any(axis=others))
    return int(hit[0]), int(hit[-1])
