"""A CT as a smaller dose would have shown it: noise is added to its projections.

The scan is projected again, the noise that the smaller number of photons has beyond that of the
full dose is drawn for every ray, and its filtered back-projection is added to the scan, whose
resolution therefore stays as it is. Parallel beams, one energy; see `partitions.scans.projections`.
After Zeng et al., IEEE Transactions on Nuclear Science 2015, doi:10.1109/TNS.2015.2467219, with the
scan's own projections in place of the scanner's, which an exported image no longer has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from partitions.scans.projections import (
    ELECTRONIC_SD,
    angles,
    attenuation,
    hounsfield,
    project,
    reconstruct,
)

FloatArray = NDArray[np.float64]

FULL_DOSE_PHOTONS, FULL_DOSE_VIEWS = 1e6, 360
"""Photons per ray in air, and views over half a turn, that the stored scan is taken to have had:
nobody can know them from the image, so that a dose is meant relative to this one."""

_MOST_PIXELS = 256
"""Of a side of the grid on which the noise is drawn; time grows with its third power."""

_AIR_HU = -1000.0
_MOST_INTEGRAL = 12.0
"""Behind more than this no photon arrives at any dose, and the noise would know no bound."""


def with_dose(
    scan: FloatArray,
    edges: tuple[float, float, float],
    dose: float,
    rng: np.random.Generator,
) -> FloatArray:
    """The scan at a part of its dose.

    Args:
        scan: HU, shape (x, y, z), every slice in the plane of x and y.
        edges: voxel edges in mm.
        dose: the smaller dose relative to the scan's own, above 0 and at most 1; 1 changes nothing.
        rng: source of the noise.

    Returns:
        HU, the same shape. The noise has the mean 0; it is no finer than a 256th of the slice.
    """
    found = scan.copy()
    for place in range(scan.shape[2]):
        found[..., place] += _noise(scan[..., place], edges, dose, rng)
    return found


def _noise(
    slice_: FloatArray, edges: tuple[float, float, float], dose: float, rng: np.random.Generator
) -> FloatArray:
    """What one slice of shape (x, y) gains in HU."""
    from scipy import ndimage

    width = max(edge * side for edge, side in zip(edges[:2], slice_.shape, strict=True))
    pixel = max(min(edges[:2]), width / _MOST_PIXELS)
    zoom = (edges[0] / pixel, edges[1] / pixel)
    even = ndimage.zoom(slice_, zoom, order=1, mode="nearest", grid_mode=True)
    square, inner = _in_a_square(even)
    directions = angles(min(FULL_DOSE_VIEWS, square.shape[0]))
    integrals = project(attenuation(square)[..., np.newaxis], pixel, directions)
    drawn = _missing_sd(integrals, dose) * rng.standard_normal(integrals.shape)
    grains = hounsfield(reconstruct(drawn, pixel, directions)[..., 0]) - hounsfield(np.zeros(1))
    back = [new / old for new, old in zip(slice_.shape, even.shape, strict=True)]
    result: FloatArray = ndimage.zoom(
        grains[inner], back, order=1, mode="nearest", grid_mode=True, prefilter=False
    )
    return result


def _missing_sd(integrals: FloatArray, dose: float) -> FloatArray:
    """Standard deviation, after the logarithm, that the smaller dose has beyond the full one.

    Of N photons behind the patient, with electronic noise of the variance s^2, the logarithm has
    the variance 1/N + s^2/N^2 to first order; the two doses' variances are subtracted. Fewer views
    share the same photons.
    """
    photons = FULL_DOSE_PHOTONS * FULL_DOSE_VIEWS / integrals.shape[1]
    behind = photons * np.exp(-np.minimum(integrals, _MOST_INTEGRAL))
    quanta = (1 / dose - 1) / behind
    electronics = (1 / dose**2 - 1) * (ELECTRONIC_SD / behind) ** 2
    return np.asarray(np.sqrt(quanta + electronics))


def _in_a_square(image: FloatArray) -> tuple[FloatArray, tuple[slice, slice]]:
    """Air around an image, so that the circle of what is projected holds its corners."""
    side = int(np.ceil(np.hypot(*image.shape))) + 3
    before = [(side - length) // 2 for length in image.shape]
    square = np.full((side, side), _AIR_HU)
    inner = tuple(
        slice(first, first + length) for first, length in zip(before, image.shape, strict=True)
    )
    square[inner] = image
    return square, (inner[0], inner[1])
