"""A subject's tissue fractions on a site's image grid, thick slices and all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from partitions.computed.atlas import Atlas
from partitions.computed.deformation import BackwardMap
from partitions.computed.site_profiles import ImageGrid

FloatArray = NDArray[np.float64]

SUBSLICES = 2
"""Thin slices averaged into one thick slice (a rectangular slice profile)."""

SHARPNESS = 2.0
"""Exponent on the tissue fractions: one brain has crisper borders than an average of 152."""


@dataclass(frozen=True)
class Fractions:
    """What each voxel holds. Arrays have shape (X, Y, Z), axes right, anterior, superior.

    Attributes:
        gm: grey-matter fraction, 0..1.
        wm: normal white-matter fraction, 0..1.
        csf: cerebrospinal-fluid fraction, 0..1.
        lesion: lesion fraction, 0..1.
        detail: mean within-tissue deviation, -1..1 (see :mod:`partitions.computed.atlas`).
    """

    gm: FloatArray
    wm: FloatArray
    csf: FloatArray
    lesion: FloatArray
    detail: FloatArray

    @property
    def brain(self) -> FloatArray:
        """Part of each voxel that lies in the brain, 0..1."""
        return self.gm + self.wm + self.csf + self.lesion


def grid_axes(profile: ImageGrid) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Positions in mm of the voxel centres along right, anterior and superior."""
    counts = (profile.matrix, profile.matrix, profile.slices)
    spacing = (profile.pixel_mm, profile.pixel_mm, profile.slice_mm)
    x, y, z = (
        np.asarray(middle + step * (np.arange(count) - (count - 1) / 2), dtype=np.float64)
        for middle, step, count in zip(profile.centre_mm, spacing, counts, strict=True)
    )
    return x, y, z


def sample_fractions(
    atlas: Atlas,
    lesion: NDArray[np.float32],
    shape: BackwardMap,
    profile: ImageGrid,
    csf_weight: float,
) -> Fractions:
    """Average the deformed atlas over each voxel's sub-slices.

    Args:
        atlas: the anatomy.
        lesion: lesion fraction on the atlas grid.
        shape: the subject's map into the atlas.
        profile: the site with its grid.
        csf_weight: weight of CSF where tissues share a point; above 1 widens the sulci.
    """
    index = fine_nodes(shape, profile)
    inside = at_points(_near_brain(atlas, shape), index)
    positions = atlas_positions(shape, index, inside)
    values = point_fractions(atlas, lesion, positions, csf_weight)
    gm, wm, csf, diseased, detail = (average_subslices(part, inside) for part in values)
    brain = np.maximum(gm + wm + csf + diseased, 1e-6)
    return Fractions(gm=gm, wm=wm, csf=csf, lesion=diseased, detail=detail / brain)


def fine_nodes(shape: BackwardMap, profile: ImageGrid) -> list[FloatArray]:
    """Node indices of the columns, rows and thin sub-slices of a grid, one array per axis."""
    x, y, z = grid_axes(profile)
    thin = (np.arange(SUBSLICES) - (SUBSLICES - 1) / 2) * profile.slice_mm / SUBSLICES
    fine_axes = (x, y, (z[:, None] + thin).ravel())
    return [shape.node_index(axis, positions) for axis, positions in enumerate(fine_axes)]


def at_points(marked: NDArray[np.bool_], index: list[FloatArray]) -> NDArray[np.bool_]:
    """Which fine points lie nearest to a marked node; the others need not be computed."""
    clipped = [
        np.clip(np.rint(part), 0, size - 1).astype(np.intp)
        for part, size in zip(index, marked.shape, strict=True)
    ]
    return np.asarray(marked[np.ix_(*clipped)])


def atlas_positions(
    shape: BackwardMap, index: list[FloatArray], inside: NDArray[np.bool_]
) -> FloatArray:
    """Atlas positions in mm of the N fine points ``inside``, shape (3, N)."""
    nodes = at_nodes(index, inside)
    return np.stack(
        [ndimage.map_coordinates(part, nodes, order=1, mode="nearest") for part in shape.atlas_mm]
    )


def at_nodes(index: list[FloatArray], inside: NDArray[np.bool_]) -> FloatArray:
    """Fractional node indices of the N fine points ``inside``, shape (3, N)."""
    return np.stack([part[where] for part, where in zip(index, np.nonzero(inside), strict=True)])


def point_fractions(
    atlas: Atlas, lesion: NDArray[np.float32], positions_mm: FloatArray, csf_weight: float
) -> list[FloatArray]:
    """Grey, white, CSF and lesion fraction and fraction-weighted detail at N points.

    Args:
        atlas: the anatomy.
        lesion: lesion fraction on the atlas grid.
        positions_mm: atlas positions, shape (3, N).
        csf_weight: see `sample_fractions`.
    """
    voxels = positions_mm - np.array(atlas.origin)[:, None]
    gm, wm, csf, detail = (
        ndimage.map_coordinates(part, voxels, order=1, output=np.float64)
        for part in (atlas.gm, atlas.wm, atlas.csf, atlas.detail)
    )
    brain = gm + wm + csf
    gm, wm, csf = gm**SHARPNESS, wm**SHARPNESS, csf_weight * csf**SHARPNESS
    share = brain / np.maximum(gm + wm + csf, 1e-6)
    gm, wm, csf = gm * share, wm * share, csf * share
    diseased = np.zeros_like(wm)
    if lesion.any():
        diseased = wm * ndimage.map_coordinates(lesion, voxels, order=1, output=np.float64)
    return [gm, wm - diseased, csf, diseased, detail * brain]


def average_subslices(values: FloatArray, inside: NDArray[np.bool_]) -> FloatArray:
    """Values at the points ``inside`` (0 elsewhere), averaged over each slice's sub-slices."""
    fine = np.zeros(inside.shape)
    fine[inside] = values
    total = fine[..., ::SUBSLICES].copy()
    for offset in range(1, SUBSLICES):
        total += fine[..., offset::SUBSLICES]
    return total / SUBSLICES


def _near_brain(atlas: Atlas, shape: BackwardMap) -> NDArray[np.bool_]:
    # Nodes whose cell touches the brain; the rest of the field of view is left at zero.
    voxels = shape.atlas_mm - np.array(atlas.origin)[:, None, None, None]
    brain = atlas.gm + atlas.wm + atlas.csf
    occupied = ndimage.map_coordinates(brain, voxels, order=0) > 0
    return np.asarray(ndimage.binary_dilation(occupied, iterations=1))
