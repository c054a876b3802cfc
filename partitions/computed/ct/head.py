"""A head around the atlas' brain: skull, scalp and air cells as layers by distance.

The atlas is skull-stripped, and no map of bone comes with it. So everything outside the brain is a
function of the distance from it, in the subject's own shape. Each layer's share of a voxel is
computed in the subject's space from the deformed distance, blurred by the point-spread function
along that distance; values in Hounsfield units are assigned afterwards and never interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtr

from partitions.computed.anatomy import (
    SUBSLICES,
    Fractions,
    at_nodes,
    at_points,
    atlas_positions,
    average_subslices,
    fine_nodes,
    point_fractions,
)
from partitions.computed.atlas import Atlas, load_atlas
from partitions.computed.deformation import BackwardMap, smooth_field
from partitions.computed.site_profiles import ImageGrid

FloatArray = NDArray[np.float64]

STEP_MM = 2
"""Grid of the distance map; it is smoothed over as much."""

MARGIN_MM = 28.0
"""How far the distance map and a head's coarse grid reach beyond the atlas."""

CLOSING_VOXELS = 4
"""How far the closing of the brain reaches along the axes; less along diagonals."""

DISTANCE_SIGMA_MM = 2.0
"""Smoothing of the distance; without it the sulci print through to the skull."""

POINT_SPREAD_MM = 0.7
"""Standard deviation of the scanners' point-spread function."""

CSF_OUTER, SKULL_OUTER = 2.0, 8.0
"""Distances in mm from the closed brain to the skull's inner and outer surface, at thickness 1."""

MUSCLE_OUTER, FAT_OUTER, SKIN_OUTER = 10.5, 13.0, 15.0
MARROW_INNER, MARROW_OUTER = 3.5, 6.5
CELLS_INNER, CELLS_OUTER = 3.0, 7.0

THINNEST, THICKEST = 0.8, 1.3
"""Skull thickness relative to 6 mm."""

AIR_CELLS_MM = (
    ((0.0, 75.0, -12.0), (14.0, 14.0, 10.0)),
    ((52.0, -38.0, -38.0), (10.0, 12.0, 14.0)),
    ((-52.0, -38.0, -38.0), (10.0, 12.0, 14.0)),
)
"""Centre (MNI) and radii of the frontal sinus and of both mastoids."""

AIR_EDGE = 0.08
"""Width of the ellipsoids' edge, relative to their radius."""

LAYERS = ("compact", "diploe", "muscle", "fat", "skin")


@dataclass(frozen=True)
class HeadAtlas:
    """The atlas' brain and the distance from it.

    Attributes:
        brain: the atlas.
        origin: MNI coordinates of the distance map's first voxel, mm.
        distance: signed distance from the closed brain in mm, below 0 inside, steps of 2 mm.
    """

    brain: Atlas
    origin: FloatArray
    distance: NDArray[np.float32]

    def distance_at(self, positions_mm: FloatArray) -> FloatArray:
        """Signed distance in mm at atlas positions of shape (3, ...)."""
        offset = self.origin.reshape(3, *(1,) * (positions_mm.ndim - 1))
        voxels = (positions_mm - offset) / STEP_MM
        return np.asarray(
            ndimage.map_coordinates(
                self.distance, voxels, order=1, mode="nearest", output=np.float64
            )
        )


@dataclass(frozen=True)
class SkullBuild:
    """How one subject's skull is built.

    Attributes:
        thickness: relative skull thickness at each node of the subject's coarse grid.
        cells: size of the frontal sinus and of the two mastoids, relative to the usual radii.
    """

    thickness: FloatArray
    cells: tuple[float, float, float]


@dataclass(frozen=True)
class HeadFractions:
    """What each voxel of a head holds; arrays have shape (X, Y, Z), axes R, A, S.

    Attributes:
        brain: brain tissues and all CSF inside the skull.
        layers: share of compact bone, diploe, muscle, fat and skin, 0..1.
        head: share of the voxel inside the skin, air cells included, 0..1.
    """

    brain: Fractions
    layers: dict[str, FloatArray]
    head: FloatArray


@lru_cache(maxsize=1)
def load_head() -> HeadAtlas:
    """The atlas with its distance map; kept for the life of the process."""
    return grow_head(load_atlas())


def grow_head(atlas: Atlas) -> HeadAtlas:
    """Close the brain, fill it, and measure the distance from it."""
    margin = int(MARGIN_MM)
    brain = np.pad(atlas.gm + atlas.wm + atlas.csf, margin)[::STEP_MM, ::STEP_MM, ::STEP_MM] > 0.5
    reach = ndimage.iterate_structure(ndimage.generate_binary_structure(3, 1), CLOSING_VOXELS)
    closed = ndimage.binary_closing(brain, reach)
    closed = ndimage.binary_fill_holes(closed)
    # Half a voxel from either side: the surface lies between an inner and an outer voxel.
    outside = ndimage.distance_transform_edt(~closed) - 0.5
    inside = ndimage.distance_transform_edt(closed) - 0.5
    signed = STEP_MM * np.where(closed, -inside, outside)
    smooth = ndimage.gaussian_filter(signed, DISTANCE_SIGMA_MM / STEP_MM, mode="nearest")
    return HeadAtlas(
        brain=atlas,
        origin=np.array(atlas.origin) - margin,
        distance=smooth.astype(np.float32),
    )


def draw_skull(shape: BackwardMap, rng: np.random.Generator) -> SkullBuild:
    """Draw one subject's skull: its mean thickness, how it varies, its air cells."""
    mean = rng.uniform(0.88, 1.18)
    varies = smooth_field(shape.atlas_mm.shape[1:], 24.0, 0.07, rng)
    sinus, right, left = rng.uniform(0.6, 1.2, 3)
    return SkullBuild(
        np.clip(mean + varies, THINNEST, THICKEST), (float(sinus), float(right), float(left))
    )


def sample_head(
    head: HeadAtlas,
    lesion: NDArray[np.float32],
    shape: BackwardMap,
    skull: SkullBuild,
    profile: ImageGrid,
    csf_weight: float,
) -> HeadFractions:
    """Average the deformed head over each voxel's sub-slices.

    Args:
        head: the anatomy.
        lesion: lesion fraction on the atlas grid.
        shape: the subject's map into the atlas, with a margin of `MARGIN_MM`.
        skull: the subject's skull.
        profile: the grid.
        csf_weight: see `partitions.computed.anatomy.sample_fractions`.
    """
    index = fine_nodes(shape, profile)
    near = head.distance_at(shape.atlas_mm) < SKIN_OUTER + SKULL_OUTER
    points = at_points(near, index)
    positions = atlas_positions(shape, index, points)
    thickness = ndimage.map_coordinates(
        skull.thickness, at_nodes(index, points), order=1, mode="nearest"
    )
    shares = layer_shares(
        head.distance_at(positions),
        thickness,
        air_cells(positions, skull.cells),
        blur_mm(profile),
    )
    inside = shares.pop("inside")
    gm, wm, _, diseased, detail = point_fractions(head.brain, lesion, positions, csf_weight)
    # Fluid is what brain tissue leaves free inside the skull: sulci, ventricles, the subarachnoid
    # space. At the rim the blurred skull takes its share from the tissue.
    tissue = gm + wm + diseased
    room = np.minimum(1.0, inside / np.maximum(tissue, 1e-6))
    values = [gm * room, wm * room, inside - tissue * room, diseased * room, detail * room]
    gm, wm, csf, diseased, detail = (average_subslices(part, points) for part in values)
    brain = np.maximum(gm + wm + csf + diseased, 1e-6)
    averaged = {name: average_subslices(share, points) for name, share in shares.items()}
    return HeadFractions(
        brain=Fractions(gm=gm, wm=wm, csf=csf, lesion=diseased, detail=detail / brain),
        head=averaged.pop("head"),
        layers=averaged,
    )


def blur_mm(profile: ImageGrid) -> float:
    """Standard deviation of point-spread function and voxel together, mean over the axes."""
    boxes = 2 * profile.pixel_mm**2 + (profile.slice_mm / SUBSLICES) ** 2
    return float(np.sqrt(POINT_SPREAD_MM**2 + boxes / 3 / 12))


def layer_shares(
    distance: FloatArray, thickness: FloatArray, cells: FloatArray, blur: float
) -> dict[str, FloatArray]:
    """Each layer's share of points, blurred along the distance; no value crosses a border.

    Args:
        distance: from the closed brain in mm, below 0 inside it, shape (N,).
        thickness: relative thickness of the skull there.
        cells: 1 where bone between 3 and 7 mm holds air, 0 where it is solid.
        blur: standard deviation of the blur in mm.

    Returns:
        Shares in 0..1 of ``inside`` (brain and fluid), of each of `LAYERS`, and of ``head`` (all
        of them and the air cells).
    """

    def below(nominal: float) -> FloatArray:
        bone = min(max(nominal - CSF_OUTER, 0.0), SKULL_OUTER - CSF_OUTER)
        return np.asarray(ndtr((nominal + bone * (thickness - 1) - distance) / blur))

    skull, cells_start, marrow_start = below(CSF_OUTER), below(CELLS_INNER), below(MARROW_INNER)
    marrow_end, cells_end, scalp = below(MARROW_OUTER), below(CELLS_OUTER), below(SKULL_OUTER)
    muscle_end, fat_end, head = below(MUSCLE_OUTER), below(FAT_OUTER), below(SKIN_OUTER)
    solid = 1 - cells
    aired = (marrow_start - cells_start) + (cells_end - marrow_end)
    return {
        "inside": skull,
        "compact": (cells_start - skull) + solid * aired + (scalp - cells_end),
        "diploe": solid * (marrow_end - marrow_start),
        "muscle": muscle_end - scalp,
        "fat": fat_end - muscle_end,
        "skin": head - fat_end,
        "head": head,
    }


def air_cells(positions_mm: FloatArray, sizes: tuple[float, float, float]) -> FloatArray:
    """Where bone is aired: about 1 inside the three ellipsoids, 0 elsewhere, shape (N,).

    Args:
        positions_mm: atlas positions, shape (3, N).
        sizes: of frontal sinus and mastoids, relative to their usual radii.
    """
    aired = np.zeros(positions_mm.shape[1])
    for (centre, radii), size in zip(AIR_CELLS_MM, sizes, strict=True):
        offset = (positions_mm - np.array(centre)[:, None]) / (size * np.array(radii)[:, None])
        radius = np.sqrt((offset**2).sum(axis=0))
        aired = np.maximum(aired, ndtr((1 - radius) / AIR_EDGE))
    return aired
