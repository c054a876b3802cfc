"""The way back: from prepared slices to the voxel grid of the scan that they were cut from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partitions.preparation.intensities import Scale
from partitions.scans.grid import Affine, Grid, from_lps, to_lps, turned

_DIGITS = 9
"""Maps between grids are rounded to so many digits, so that a step of one voxel is exactly that."""
Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class SliceGeometry:
    """Where the prepared slices of one subject lie in its scan.

    Attributes:
        shape: voxels along the axes of the scan as it is stored.
        affine: its 4x4 affine, voxel index to mm.
        plane_affine: 4x4 of the scan after its axes were turned (LPS) and it was resampled in the
            plane of its slices, before it was cut; voxel index (x, y, z) to mm.
        corner: column and row of that plane where the slices begin; negative where they begin with
            padding.
        kept: which slices of the turned scan these are, counted from the feet, in rising order.
    """

    shape: tuple[int, int, int]
    affine: Matrix
    plane_affine: Matrix
    corner: tuple[int, int]
    kept: tuple[int, ...]

    @property
    def grid(self) -> Grid:
        """The grid of the scan as it is stored."""
        return Grid(self.shape, np.array(self.affine))

    def to_json(self) -> dict[str, Any]:
        """All of it but ``kept``, which the record of a subject has anyway."""
        return {name: value for name, value in asdict(self).items() if name != "kept"}


def geometry_of(
    grid: Grid, plane_affine: Affine, corner: tuple[int, int], kept: NDArray[np.intp]
) -> SliceGeometry:
    """The geometry as plain numbers, which a record keeps.

    Args:
        grid: of the scan as it is stored.
        plane_affine: see `SliceGeometry`.
        corner: likewise.
        kept: likewise.
    """
    return SliceGeometry(
        grid.shape,
        _numbers(grid.affine),
        _numbers(plane_affine),
        corner,
        tuple(int(index) for index in kept),
    )


def geometry_from(content: Mapping[str, Any], kept: list[int]) -> SliceGeometry:
    """The geometry that `SliceGeometry.to_json` wrote."""
    x, y, z = content["shape"]
    column, row = content["corner"]
    return SliceGeometry(
        (x, y, z),
        _numbers(content["affine"]),
        _numbers(content["plane_affine"]),
        (column, row),
        tuple(kept),
    )


def to_native_grid(
    slices: NDArray[Any], geometry: SliceGeometry, scale: Scale
) -> NDArray[np.float32]:
    """Prepared or translated slices as the scan would be stored, in the unit of a scale.

    As `to_turned_grid`, with the axes of the stored scan: shape ``geometry.shape``.
    """
    return np.ascontiguousarray(turned_to_native(to_turned_grid(slices, geometry, scale), geometry))


def to_turned_grid(
    slices: NDArray[Any], geometry: SliceGeometry, scale: Scale
) -> NDArray[np.float32]:
    """Prepared or translated slices on the voxels of their scan, in the unit of a scale.

    Pixels are interpolated linearly between the centres of the slices' pixels, as preparation did,
    and continued by half a pixel at the border of what was cut out. Where no pixel grid was changed
    (``spacing: null``, or the scan's own pixel size) the values come back as they are. Voxels that
    no slice covers, because they were cut off or their slice was left out, have ``scale.low``: air
    in a CT. Voxels outside the mask keep what the slices say.

    Args:
        slices: (slices, rows, columns), intensities; clipped to [0, 1].
        geometry: where they lie.
        scale: of the domain that they show.

    Returns:
        float32, axes (x, y, z) as `Volume` has them.

    Raises:
        ValueError: not as many slices as the geometry has.
    """
    if len(slices) != len(geometry.kept):
        raise ValueError(f"{len(slices)} slices, but the geometry has {len(geometry.kept)}")
    values = scale.to_unit(slices).astype(np.float32)
    found = _resampled_back(values, geometry, "nearest", 1, scale.low)
    found[~covered(geometry, tuple(slices.shape[1:]))] = scale.low
    return found


def mask_to_native_grid(mask: NDArray[np.uint8], geometry: SliceGeometry) -> NDArray[np.bool_]:
    """A prepared mask on the scan's own grid, by nearest neighbour; False where nothing covers.

    Args:
        mask: (slices, rows, columns), 0 or 1.
        geometry: where its slices lie.
    """
    found = _resampled_back((mask > 0).astype(np.float32), geometry, "grid-constant", 0)
    return np.asarray(turned_to_native(found, geometry) > 0)


@lru_cache(maxsize=1)  # the arms of an evaluation ask one after the other for the same patient
def covered(geometry: SliceGeometry, size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which voxels of the turned scan lie in a pixel of a prepared slice, axes (x, y, z)."""
    whole = np.ones((len(geometry.kept), *size), dtype=np.float32)
    return _resampled_back(whole, geometry, "grid-constant", 0) > 0


def turned_to_native(volume: NDArray[Any], geometry: SliceGeometry) -> NDArray[Any]:
    """A volume whose axes were turned when it was read, with the axes of the stored scan."""
    return turned(volume, from_lps(geometry.grid))


def _resampled_back(
    slices: NDArray[np.float32],
    geometry: SliceGeometry,
    mode: str,
    order: int,
    left_out: float = 0.0,
) -> NDArray[np.float32]:
    """Slices (slices, rows, columns) on the turned grid of the scan, axes (x, y, z).

    ``left_out`` is the value of slices between them that were not kept.
    """
    first, last = geometry.kept[0], geometry.kept[-1]
    # Imported here, as reading a prepared site should not wait for it.
    from scipy import ndimage

    rows, columns = slices.shape[1:]
    block = np.full((columns, rows, last - first + 1), left_out, dtype=np.float32)
    block[..., np.array(geometry.kept) - first] = slices.transpose(2, 1, 0)
    grid = to_lps(geometry.grid)[1]
    # From a voxel of the scan to its place among the slices.
    way = np.linalg.inv(np.array(geometry.plane_affine)) @ grid.affine
    way = np.round(way, _DIGITS)
    matrix, offset = way[:3, :3], way[:3, 3] - (*geometry.corner, first)
    if not np.any(matrix - np.diag(np.diag(matrix))):
        matrix = np.diag(matrix)  # which scipy does axis by axis
    found: NDArray[np.float32] = ndimage.affine_transform(
        block, matrix, offset, grid.shape, np.float32, order, mode, prefilter=False
    )
    return found


def _numbers(matrix: Any) -> Matrix:
    return tuple(tuple(float(number) for number in row) for row in matrix)
