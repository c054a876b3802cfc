"""A subject's own shape: an invertible map from the subject's space into the atlas.

The map runs backwards (subject to atlas), as resampling needs it: a small affine map, then two
Gaussian-smoothed random displacement fields, then the widening of the ventricles. It is kept on a
coarse grid and interpolated linearly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from partitions.computed.atlas import Atlas

FloatArray = NDArray[np.float64]

NODE_MM = 4.0
"""Spacing of the coarse grid."""

MARGIN_MM = 12.0
"""How far the coarse grid reaches beyond the atlas on every side."""

SMOOTHNESS_MM = (24.0, 9.0)
"""Gaussian sigma of the two random displacement fields: head shape, and gyri."""

AMPLITUDE_MM = (2.8, 0.7)
"""Root mean square displacement of each."""

SMALLEST_JACOBIAN = 0.4
"""Random displacements are scaled down until the Jacobian determinant exceeds this everywhere."""

WIDENING_STEP_MM = 1.0
"""Largest step of the flow that widens the ventricles."""

SMALLEST_PULL = 1e-3
"""Pull, of a largest 1, below which a node does not move."""


@dataclass(frozen=True)
class BackwardMap:
    """Where each point of the subject comes from in the atlas.

    Attributes:
        start: position of node (0, 0, 0) in the subject's space, mm.
        atlas_mm: shape (3, I, J, K), atlas position of each node, mm (MNI coordinates).
    """

    start: FloatArray
    atlas_mm: FloatArray

    def node_index(self, axis: int, positions_mm: FloatArray) -> FloatArray:
        """Fractional node index of positions along one axis."""
        return np.asarray((positions_mm - self.start[axis]) / NODE_MM)

    def jacobian_determinant(self) -> FloatArray:
        """Determinant of the map's derivative at each node; positive everywhere if invertible."""
        return jacobian_determinant(self.atlas_mm)


def draw_backward_map(
    atlas: Atlas,
    rng: np.random.Generator,
    ventricle_shift_mm: float,
    margin_mm: float = MARGIN_MM,
) -> BackwardMap:
    """Draw one subject's shape.

    Args:
        atlas: the anatomy to deform.
        rng: source of the shape.
        ventricle_shift_mm: how far the ventricle walls move outwards.
        margin_mm: how far the coarse grid reaches beyond the atlas; a head needs more than a brain.
    """
    start, nodes = _nodes(atlas, margin_mm)
    centre = np.array([0.0, -18.0, 10.0])
    matrix, shift = _draw_affine(rng)
    affine = np.einsum("ab,bijk->aijk", matrix, nodes - centre[:, None, None, None])
    affine += (centre + shift)[:, None, None, None]
    displacement = np.zeros(nodes.shape)
    for sigma, amplitude in zip(SMOOTHNESS_MM, AMPLITUDE_MM, strict=True):
        displacement += smooth_field(nodes.shape, sigma, amplitude, rng)
    # The affine map alone has a determinant above 0.8, so a small displacement ends the loop.
    while jacobian_determinant(affine + displacement).min() < SMALLEST_JACOBIAN:
        displacement = 0.8 * displacement
    widened = _widen_ventricles(atlas, affine + displacement, ventricle_shift_mm)
    return BackwardMap(start=start, atlas_mm=widened)


def jacobian_determinant(mapped_mm: FloatArray) -> FloatArray:
    """Determinant of the derivative of a map given on the coarse grid, by central differences."""
    a, b, c = (np.gradient(part, NODE_MM) for part in mapped_mm)
    minors = (
        b[1] * c[2] - b[2] * c[1],
        b[2] * c[0] - b[0] * c[2],
        b[0] * c[1] - b[1] * c[0],
    )
    return np.asarray(a[0] * minors[0] + a[1] * minors[1] + a[2] * minors[2])


def _nodes(atlas: Atlas, margin_mm: float) -> tuple[FloatArray, FloatArray]:
    start = np.array(atlas.origin) - margin_mm
    counts = (np.array(atlas.gm.shape) + 2 * margin_mm) // NODE_MM + 1
    axes = [first + NODE_MM * np.arange(count) for first, count in zip(start, counts, strict=True)]
    return start, np.stack(np.meshgrid(*axes, indexing="ij"))


def _draw_affine(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    # Backward scales: above 1 the subject's head is smaller than the template's.
    angles = np.clip(rng.normal(0, 2.5, 3), -6, 6)
    scales = np.clip(rng.normal(1.02, 0.03, 3), 0.94, 1.10)
    shift = np.clip(rng.normal(0, 1.5, 3), -4, 4)
    return Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * scales, shift


def smooth_field(
    shape: tuple[int, ...], sigma_mm: float, amplitude: float, rng: np.random.Generator
) -> FloatArray:
    """Smooth random values around 0 on the coarse grid.

    Args:
        shape: (channels, I, J, K), or (I, J, K) for one channel.
        sigma_mm: Gaussian smoothness.
        amplitude: root mean square of the result.
        rng: source of the field.
    """
    noise = rng.standard_normal(shape)
    sigma = (*(0.0,) * (len(shape) - 3), *(sigma_mm / NODE_MM,) * 3)
    smooth = ndimage.gaussian_filter(noise, sigma, mode="nearest")
    return np.asarray(amplitude * smooth / np.sqrt((smooth**2).mean()))


def _widen_ventricles(atlas: Atlas, positions_mm: FloatArray, shift_mm: float) -> FloatArray:
    # Small steps along the pull make a flow, which stays invertible where one large step folds.
    # Nodes the pull does not reach stay put and are left out.
    steps = math.ceil(shift_mm / WIDENING_STEP_MM)
    if steps == 0:
        return positions_mm
    reached = np.abs(_pull_at(atlas, positions_mm.reshape(3, -1))).max(axis=0) > SMALLEST_PULL
    moving = positions_mm.reshape(3, -1)[:, reached]
    for _ in range(steps):
        moving = moving + shift_mm / steps * _pull_at(atlas, moving)
    widened = positions_mm.copy()
    widened.reshape(3, -1)[:, reached] = moving
    return widened


def _pull_at(atlas: Atlas, positions_mm: FloatArray) -> FloatArray:
    voxels = positions_mm - np.array(atlas.origin)[:, None]
    return np.stack(
        [ndimage.map_coordinates(part, voxels, order=1) for part in atlas.towards_ventricles]
    ).astype(np.float64)
