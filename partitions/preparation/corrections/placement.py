"""Two scans of one subject whose positions are related: one on the grid of the other, and back.

A 4x4 matrix leads from a position in the source to the same place in the target, in mm, RAS.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from partitions.preparation.corrections.itk_volume import (
    itk_image,
    itk_transform,
    one_thread,
    voxels_of,
)
from partitions.scans.grid import Affine
from partitions.scans.volume import Volume

Matrix = tuple[tuple[float, ...], ...]
Mask = NDArray[np.bool_]

LEAST_OVERLAP = 0.9
"""Dice coefficient of the two foregrounds where both scans look."""

AIR_HU = -1024.0


def laid_over(target: Volume, source: Volume, matrix: Matrix, hounsfield: bool) -> Volume:
    """The target on the source's grid, interpolated once and linearly.

    Args:
        target: on a grid of its own.
        source: whose grid is wanted.
        matrix: from source to target.
        hounsfield: whether the values are HU; where the target does not reach there is air then,
            else 0.
    """
    return _resampled(target, source, np.array(matrix), AIR_HU if hounsfield else 0.0)


def laid_back(moved: Volume, target: Volume, matrix: Matrix, outside: float) -> Volume:
    """The way back: values on the source's grid, such as a translation, on the target's own grid.

    Args:
        moved: on the grid of the source.
        target: whose grid is wanted.
        matrix: from source to target, as for `laid_over`; it is inverted exactly.
        outside: value where the source does not reach.
    """
    return _resampled(moved, target, np.linalg.inv(np.array(matrix)), outside)


def reach(source: Volume, target: Volume, matrix: Matrix) -> Mask:
    """Which voxels of the source's grid the target shows."""
    seen = replace(target, data=np.ones_like(target.data))
    return np.asarray(_resampled(seen, source, np.array(matrix), 0.0).data > 0.5)


def overlap(
    foregrounds: tuple[Mask, Mask], source: Volume, target: Volume, matrix: Matrix
) -> float:
    """Dice coefficient of the foregrounds on the source's grid, where the target reaches.

    Args:
        foregrounds: head or body in the source and in the target, on their grids.
        source: gives its grid.
        target: likewise.
        matrix: from source to target.
    """
    head = replace(target, data=foregrounds[1].astype(np.float32))
    there = _resampled(head, source, np.array(matrix), 0.0).data > 0.5
    here = foregrounds[0] & reach(source, target, matrix)
    both = int(here.sum()) + int(there.sum())
    return 2 * int((here & there).sum()) / both if both else 0.0


def _resampled(volume: Volume, grid: Volume, matrix: Affine, outside: float) -> Volume:
    """A volume on another one's grid; ``matrix`` leads from the grid's positions to its own."""
    import SimpleITK

    one_thread()
    found = SimpleITK.Resample(
        itk_image(volume),
        itk_image(grid),
        itk_transform(matrix),
        SimpleITK.sitkLinear,
        outside,
        SimpleITK.sitkFloat32,
    )
    return Volume(volume.path, voxels_of(found), grid.affine)
