"""Where the voxels of a stack of slices lie, from the slices' positions alone.

SliceThickness, SpacingBetweenSlices, InstanceNumber and GantryDetectorTilt are not looked at: they
are often wrong, and positions say it all (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from partitions.scans.grid import Affine
from partitions.scans.itk import LPS_TO_RAS

RIGHT_ANGLE = 1e-3
"""Rows and columns are at right angles if the cosine between them is at most this."""
SAME_PLACE_MM, SAME_PLACE = 1e-3, 0.01
"""Two slices lie at one place if they are nearer than this, in mm or in parts of the distance."""
UNEVEN_MM, UNEVEN = 0.02, 0.01
"""Distances may differ by this much: scanners round positions to 3 to 6 decimals."""
SIDEWAYS = 0.1
"""A stack is straight if no slice lies further beside the normal, in parts of a pixel edge."""


class GeometryError(Exception):
    """Slices that are no volume; the message says why, as the end of a sentence."""


@dataclass(frozen=True)
class Stack:
    """Slices in order.

    Attributes:
        order: the slices' indices, along the normal of the planes.
        affine: 4x4, index of (column, row, slice) to position in mm (RAS). It is sheared where
            the stack is tilted.
        distance: between two slices, in mm.
        tilt: angle in degrees between the stack and the normal; 0 where the stack is straight.
    """

    order: NDArray[np.intp]
    affine: Affine
    distance: float
    tilt: float


def stack_of(
    positions: Sequence[Sequence[float]],
    orientation: Sequence[float],
    spacing: tuple[float, float],
) -> Stack:
    """Sort slices along their normal and find the grid that they make.

    Args:
        positions: of the first pixel of each slice, in mm (LPS).
        orientation: ImageOrientationPatient: where columns, then where rows are counted to.
        spacing: PixelSpacing: distance between rows, then between columns. So the *first* number
            belongs to the *second* direction.

    Raises:
        GeometryError: one slice only, two at one place, a gap, slices beside each other, or
            directions that are none.
    """
    along_row, along_column = _directions(orientation)
    normal = np.cross(along_row, along_column)
    places = np.asarray(positions, dtype=np.float64)
    if len(places) < 2:
        raise GeometryError("is a single slice, which has no distance to a next one")
    heights = places @ normal
    order = np.argsort(heights, kind="stable")
    places, heights = places[order], heights[order]
    distance = _checked_distance(heights)
    edge = min(spacing)
    if not (math.isfinite(edge) and edge > 0):
        raise GeometryError(f"has pixels of {spacing[0]:g} x {spacing[1]:g} mm")
    affine = np.eye(4)
    affine[:3, 0] = along_row * spacing[1]
    affine[:3, 1] = along_column * spacing[0]
    affine[:3, 2] = (places[-1] - places[0]) / (len(places) - 1)
    affine[:3, 3] = places[0]
    tilt = _tilt(places, normal, distance, SIDEWAYS * edge)
    return Stack(order, np.asarray(LPS_TO_RAS @ affine), distance, tilt)


def duplicate_places(positions: Sequence[Sequence[float]], orientation: Sequence[float]) -> int:
    """How many slices lie where another one lies already."""
    along_row, along_column = _directions(orientation)
    heights = np.sort(np.asarray(positions, dtype=np.float64) @ np.cross(along_row, along_column))
    return int(_same_place(np.diff(heights)).sum())


def _directions(orientation: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    both = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    lengths = np.linalg.norm(both, axis=1)
    if not (np.isfinite(lengths).all() and (lengths > 0.5).all()):
        raise GeometryError("has directions of rows and columns that are no directions")
    along_row, along_column = both / lengths[:, np.newaxis]
    if abs(along_row @ along_column) > RIGHT_ANGLE:
        raise GeometryError("has rows and columns that are not at right angles")
    return along_row, along_column


def _same_place(steps: NDArray[np.float64]) -> NDArray[np.bool_]:
    least = SAME_PLACE * float(np.median(steps)) if steps.size else 0.0
    return np.asarray(steps < max(least, SAME_PLACE_MM))


def _checked_distance(heights: NDArray[np.float64]) -> float:
    """The distance of slices that lie evenly."""
    steps = np.diff(heights)
    if not np.isfinite(steps).all():
        raise GeometryError("has slices at positions that are no numbers")
    distance = float(np.median(steps))
    twice = np.flatnonzero(_same_place(steps))
    if twice.size:
        raise GeometryError(
            f"has {twice.size} slice(s) at the place of another one, the first at "
            f"{heights[twice[0]]:.2f} mm along the normal"
        )
    uneven = np.flatnonzero(np.abs(steps - distance) > max(UNEVEN * distance, UNEVEN_MM))
    if uneven.size:
        gaps = ", ".join(f"{heights[i]:.2f} to {heights[i + 1]:.2f} mm" for i in uneven[:3])
        more = f" and {uneven.size - 3} more" if uneven.size > 3 else ""
        raise GeometryError(
            f"has slices {distance:.4g} mm apart, but not at {gaps}{more} along the normal: "
            "slices are missing, or two stacks have one name"
        )
    return distance


def _tilt(
    places: NDArray[np.float64], normal: NDArray[np.float64], distance: float, limit: float
) -> float:
    """The angle of an evenly sheared stack in degrees, 0 for a straight one."""
    offsets = places - places[0]
    sideways = offsets - np.outer(offsets @ normal, normal)
    even = np.linspace(0, 1, len(places))[:, np.newaxis] * sideways[-1]
    if np.linalg.norm(sideways - even, axis=1).max() > limit:
        raise GeometryError("has slices that lie beside each other and not on one line")
    shift = float(np.linalg.norm(sideways[-1]))
    if shift <= limit:
        return 0.0
    return math.degrees(math.atan2(shift / (len(places) - 1), distance))
