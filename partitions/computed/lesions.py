"""White-matter lesions: smooth-edged blobs near the lateral ventricles, more of them with age."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from partitions.computed.ageing import expected_lesions
from partitions.computed.atlas import Atlas

MOST_LESIONS = 25
LARGEST_FRACTION = 0.85
"""Part of a voxel that lesion tissue fills at a lesion's centre."""

REACH_MM = 6.0
"""Typical distance of a lesion's centre from the ventricle wall (exponential)."""

EDGE = 0.12
"""Width of a lesion's edge, relative to its radius."""


def draw_lesions(atlas: Atlas, age: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Lesion fraction on the atlas grid, 0..0.85, all zero in a subject without lesions.

    Args:
        atlas: where white matter and ventricles are.
        age: years; sets the expected number.
        rng: source of number, places and shapes.
    """
    lesion = np.zeros(atlas.wm.shape, dtype=np.float32)
    count = min(int(rng.poisson(expected_lesions(age))), MOST_LESIONS)
    if count == 0:
        return lesion
    candidates = np.argwhere(atlas.wm > 0.85)
    distance = atlas.ventricle_distance[tuple(candidates.T)]
    weight = np.exp(-distance / REACH_MM) * (distance > 2)
    chosen = rng.choice(len(candidates), size=count, p=weight / weight.sum())
    for centre in candidates[chosen]:
        _add_blob(lesion, centre, rng)
    return np.asarray(lesion * atlas.wm, dtype=np.float32)


def _add_blob(
    lesion: NDArray[np.float32], centre: NDArray[np.intp], rng: np.random.Generator
) -> None:
    radii = np.clip(rng.lognormal(np.log(3.2), 0.4, 3), 1.8, 8.0)
    half = int(np.ceil(radii.max() * 1.6))
    size = 2 * half + 1
    offsets = np.indices((size, size, size)) - half
    texture = ndimage.gaussian_filter(rng.standard_normal((size, size, size)), 2.0)
    radius = np.sqrt(((offsets / radii[:, None, None, None]) ** 2).sum(axis=0))
    radius = radius + 0.2 * texture / texture.std()
    blob = LARGEST_FRACTION / (1 + np.exp((radius - 1) / EDGE))
    # Every centre lies deep in white matter, farther from the grid's edge than any blob reaches
    # sideways or upwards; below, the atlas ends in the brain stem.
    low = np.maximum(centre - half, 0)
    high = np.minimum(centre + half + 1, lesion.shape)
    target = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    source = tuple(
        slice(a - c + half, b - c + half) for a, b, c in zip(low, high, centre, strict=True)
    )
    lesion[target] = np.maximum(lesion[target], blob[source])
