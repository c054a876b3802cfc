"""Texture by grey-level co-occurrence, and how far apart the texture of two sets of slices is.

Haralick, Shanmugam, Dinstein, Textural features for image classification, IEEE Transactions on
Systems, Man, and Cybernetics 3, 1973 (doi:10.1109/TSMC.1973.4309314), as scikit-image has them. The
distance of two sets is our own: the mean over all features of the first Wasserstein distance of
their values, in standard deviations of real training slices.
"""

from __future__ import annotations

from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance
from skimage.feature import graycomatrix, graycoprops

Texture = NDArray[np.float64]
"""(slices, features)."""

LEVELS = 16
"""Grey levels of [0, 1]."""
DISTANCES = (1, 2, 4)
"""Of two pixels, in pixels."""
PROPERTIES = ("contrast", "homogeneity", "energy", "correlation")
_ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)


def texture_features(images: NDArray[np.floating], masks: NDArray[np.bool_]) -> Texture:
    """Four properties of the co-occurrence of grey levels at three distances, of every slice.

    Pairs of pixels count where both are inside the mask, in all four directions alike.

    Args:
        images: (slices, rows, columns), intensities; clipped to [0, 1].
        masks: the same shape, true inside.

    Returns:
        (slices, 12): contrast, in squared levels, at all distances, then homogeneity, energy and
        correlation, in [0, 1], [0, 1] and [-1, 1]; NaN of a slice with NaN.
    """
    return np.stack([_of_slice(image, mask) for image, mask in zip(images, masks, strict=True)])


def texture_distance(real: Texture, other: Texture, scale: NDArray[np.float64]) -> float:
    """How far apart two sets of slices are in texture; 0 where they hold the same values.

    Args:
        real: features of the slices of one set.
        other: features of the other set.
        scale: standard deviation of each feature over real training slices; one that does not vary
            is not scaled.

    Returns:
        0 or more, in standard deviations; NaN where a value is.
    """
    if np.isnan(real).any() or np.isnan(other).any():
        return float("nan")
    return fmean(
        wasserstein_distance(one, two) / (spread if spread > 0 else 1.0)
        for one, two, spread in zip(real.T, other.T, scale, strict=True)
    )


def _of_slice(image: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    if np.isnan(image).any():
        return np.full(len(PROPERTIES) * len(DISTANCES), np.nan)
    # Level 0 is what lies outside; its pairs are taken away afterwards.
    levels = np.minimum(np.clip(image, 0.0, 1.0) * LEVELS, LEVELS - 1).astype(np.uint8) + 1
    levels[~mask] = 0
    pairs = graycomatrix(levels, DISTANCES, _ANGLES, levels=LEVELS + 1, symmetric=True)
    inside = pairs[1:, 1:].sum(axis=3, keepdims=True)
    return np.concatenate([graycoprops(inside, name)[:, 0] for name in PROPERTIES])
