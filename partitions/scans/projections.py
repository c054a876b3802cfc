"""What a CT scanner does to a slice: projections, photons, scatter, filtered back-projection.

Parallel beams in the plane of the slice, one energy. Not modelled: fans and cones, helices, beam
hardening, afterglow, the couch, the bow-tie filter.

Source of the photon model: the usual one of low-dose studies, a Poisson number of photons behind
the patient plus electronic noise of constant variance, before the logarithm (for instance Gao et
al., CoreDiff, IEEE Trans Med Imaging 2024;43:745, equation 11).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

WATER_PER_MM = 0.0193
"""Linear attenuation of water near 70 keV."""

ELECTRONIC_SD = 10.0
"""Standard deviation of the detector's electronic noise, in photons."""

KERNELS = ("ramp", "shepp-logan", "cosine", "hamming", "hann")
"""Filters of the back-projection, from sharp to soft."""


def attenuation(hounsfield: FloatArray) -> FloatArray:
    """Linear attenuation per mm: 0 in air, `WATER_PER_MM` in water."""
    return np.maximum(WATER_PER_MM * (1 + hounsfield / 1000), 0.0)


def hounsfield(attenuation_per_mm: FloatArray) -> FloatArray:
    """The inverse of `attenuation`: -1000 in air, 0 in water."""
    return 1000 * (attenuation_per_mm / WATER_PER_MM - 1)


def angles(views: int) -> FloatArray:
    """Directions of the views in degrees, evenly over half a turn."""
    return np.linspace(0.0, 180.0, views, endpoint=False)


def project(volume: FloatArray, pixel_mm: float, degrees: FloatArray) -> FloatArray:
    """Line integrals through every slice.

    Args:
        volume: attenuation per mm, shape (N, N, slices); what lies outside the circle of diameter
            N is not seen.
        pixel_mm: edge of a pixel.
        degrees: directions of the V views.

    Returns:
        Shape (N, V, slices), without unit; 0 where a ray meets air only.
    """
    from skimage.transform import radon

    half = (volume.shape[0] - 1) / 2
    x, y = np.ogrid[: volume.shape[0], : volume.shape[1]]
    seen = np.where((x - half) ** 2 + (y - half) ** 2 < (half - 0.5) ** 2, 1.0, 0.0)
    slices = [pixel_mm * radon(seen * part, degrees) for part in np.moveaxis(volume, 2, 0)]
    return np.stack(slices, axis=2)


def detect(
    integrals: FloatArray,
    photons: float,
    rng: np.random.Generator,
    scatter: float = 0.0,
    gain: FloatArray | float = 1.0,
) -> FloatArray:
    """Count photons behind the patient and take the logarithm again.

    Args:
        integrals: line integrals, shape (N, V, slices).
        photons: photons per ray in air (the dose), above 0.
        rng: source of the noise.
        scatter: photons that arrive from elsewhere, the same number at every detector, relative to
            the primary photons of the central ray of that view and slice. Air is divided out with
            them, so that air stays air and what is dense looks thinner: cupping.
        gain: each detector's sensitivity, broadcast against ``integrals``; what differs from 1 is
            not calibrated away and draws rings.

    Returns:
        Noisy line integrals of the same shape.
    """
    primary = np.exp(-integrals)
    centre = primary.shape[0] // 2
    stray = scatter * primary[centre : centre + 1]
    counted = rng.poisson(photons * (primary + stray)).astype(np.float64)
    counted += ELECTRONIC_SD * rng.standard_normal(counted.shape)
    return -np.log(np.maximum(gain * counted, 1.0) / (photons * (1 + stray)))


def reconstruct(
    integrals: FloatArray, pixel_mm: float, degrees: FloatArray, kernel: str = "ramp"
) -> FloatArray:
    """Filtered back-projection of every slice.

    Args:
        integrals: shape (N, V, slices).
        pixel_mm: edge of a pixel.
        degrees: directions of the V views.
        kernel: one of `KERNELS`.

    Returns:
        Attenuation per mm, shape (N, N, slices), 0 outside the circle.
    """
    from skimage.transform import iradon

    slices = [
        iradon(part, degrees, filter_name=kernel) / pixel_mm
        for part in np.moveaxis(integrals, 2, 0)
    ]
    return np.stack(slices, axis=2)
