"""Voxel grids: where the voxels of a scan lie, and whether two scans lie at the same places."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from nibabel.orientations import (
    aff2axcodes,
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

Affine = NDArray[np.float64]

_PLANES = {"R": "sagittal", "L": "sagittal", "A": "coronal", "P": "coronal"}
ONE_GRID = 0.05
"""Two scans lie on one grid while no corner is further apart than this part of a voxel edge."""
_WHOLE = 0.01
"""Two grids are shifted by whole voxels if they are that near to it, in voxels."""


@dataclass(frozen=True)
class Grid:
    """Where the voxels of one volume lie.

    Attributes:
        shape: voxels along the three axes.
        affine: 4x4, voxel index to position in mm; the positions run to the right, to the front
            and upwards (RAS), as NIfTI has it.
    """

    shape: tuple[int, int, int]
    affine: Affine

    def equals(self, other: Grid) -> bool:
        """Whether both are the same to the last bit."""
        return self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def edges(self) -> tuple[float, float, float]:
        """Voxel edge lengths in mm, axis by axis."""
        return voxel_edges(self.affine)

    def corners(self) -> NDArray[np.float64]:
        """The positions in mm of the eight outermost voxels, shape (8, 3)."""
        ends = itertools.product(*((0, length - 1) for length in self.shape))
        voxels = np.array([(*end, 1) for end in ends], dtype=np.float64)
        return np.asarray((voxels @ self.affine.T)[:, :3])


def voxel_edges(affine: Affine) -> tuple[float, float, float]:
    """The lengths in mm of a voxel's edges."""
    x, y, z = (float(edge) for edge in np.linalg.norm(affine[:3, :3], axis=0))
    return x, y, z


def axes_of(affine: Affine) -> str:
    """Where the three axes of an array point to, e.g. ``RAS``; ``?`` for an axis without length."""
    return _axes_of(affine.tobytes())


@lru_cache(maxsize=1024)
def _axes_of(affine: bytes) -> str:
    """Most scans of a data set have one of a few affines."""
    codes = aff2axcodes(np.frombuffer(affine, dtype=np.float64).reshape(4, 4))
    return "".join(code or "?" for code in codes)


def to_lps(grid: Grid) -> tuple[NDArray[np.float64], Grid]:
    """The turn that makes axes run right to left, front to back and upwards, and the turned grid.

    Axes are swapped and mirrored only, so an oblique scan keeps its own planes.

    Returns:
        An orientation as nibabel's ``apply_orientation`` takes it, and the grid after it.
    """
    turn = ornt_transform(io_orientation(grid.affine), axcodes2ornt(("L", "P", "S")))
    order = np.argsort(turn[:, 0])
    x, y, z = (grid.shape[axis] for axis in order)
    return turn, Grid((x, y, z), grid.affine @ inv_ornt_aff(turn, grid.shape))


def from_lps(grid: Grid) -> NDArray[np.float64]:
    """The turn that undoes the one of `to_lps`, for arrays with the axes of the turned grid."""
    back: NDArray[np.float64] = ornt_transform(
        axcodes2ornt(("L", "P", "S")), io_orientation(grid.affine)
    )
    return back


def turned(data: NDArray[Any], turn: NDArray[np.float64]) -> NDArray[Any]:
    """An array turned as `to_lps` says."""
    return cast(NDArray[Any], apply_orientation(data, turn))


def largest_distance(one: Grid, other: Grid) -> float:
    """How far the voxels of two grids of one shape lie apart, in parts of the smallest voxel edge.

    Affine maps differ most at a corner, so the eight corners suffice.
    """
    apart = np.linalg.norm(one.corners() - other.corners(), axis=1).max()
    return float(apart / min(*one.edges(), *other.edges()))


def on_one_grid(one: Grid, other: Grid) -> bool:
    """Whether two scans may be laid on one another voxel by voxel."""
    return one.shape == other.shape and largest_distance(one, other) < ONE_GRID


def whole_shift(one: Grid, other: Grid) -> tuple[int, int, int] | None:
    """By how many whole voxels the second grid is shifted against the first; None if by parts."""
    apart = np.linalg.solve(one.affine[:3, :3], (other.corners() - one.corners()).T).T
    shift = np.rint(apart[0])
    if not shift.any() or np.abs(apart - shift).max() > _WHOLE:
        return None
    x, y, z = (int(step) for step in shift)
    return x, y, z


def thick_plane(grid: Grid) -> str:
    """The plane of the acquired slices, if they are thick and not axial; otherwise "".

    The slices are taken to follow each other along the longest voxel edge, and to be thick if it
    is at least twice the next one.
    """
    edges = grid.edges()
    along = int(np.argmax(edges))
    if edges[along] < 2 * sorted(edges)[1]:
        return ""
    return _PLANES.get(axes_of(grid.affine)[along], "")
