"""How age changes a computed brain: wider ventricles, wider sulci, more white-matter lesions.

The directions are those of the literature (ventricles and lesions: Raz and Rodrigue, Neurosci
Biobehav Rev 2006;30:730-748, doi:10.1016/j.neubiorev.2006.07.001); the amounts are chosen for a
plausible look and are no model of ageing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from partitions.computed.atlas import Atlas

TEMPLATE_AGE = 25.0
"""Years up to which a subject keeps the ventricles and sulci of the (young adult) template."""

YOUNGEST, OLDEST = 20.0, 88.0

MOST_LESIONS = 25
LARGEST_FRACTION = 0.85
"""Part of a voxel that lesion tissue fills at a lesion's centre."""

REACH_MM = 6.0
"""Typical distance of a lesion's centre from the ventricle wall (exponential)."""

EDGE = 0.12
"""Width of a lesion's edge, relative to its radius."""


def draw_age(mean: float, sd: float, rng: np.random.Generator) -> int:
    """An adult's age in whole years."""
    return round(float(np.clip(rng.normal(mean, sd), YOUNGEST, OLDEST)))


def years_beyond_template(age: float) -> float:
    """Years past the template's age, at least 0."""
    return max(0.0, age - TEMPLATE_AGE)


def ventricle_shift_mm(age: float, individual: float = 0.0) -> float:
    """How far the ventricle walls move outwards, in mm (0..5).

    Args:
        age: years.
        individual: the subject's own deviation in mm; 0 gives the mean of that age.
    """
    return float(np.clip(0.075 * years_beyond_template(age) + individual, 0.0, 5.0))


def csf_weight(age: float) -> float:
    """Relative weight of CSF where tissues share a voxel; above 1 it widens the sulci."""
    return 1.15 + 0.012 * years_beyond_template(age)


def expected_lesions(age: float) -> float:
    """Mean number of white-matter lesions, rising faster with age: 0 at 25, 4 at 54, 10 at 70."""
    return 10.0 * (years_beyond_template(age) / 45.0) ** 2


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
