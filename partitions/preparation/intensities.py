"""Robust intensity scaling inside a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = 65535
"""Largest stored value: a stored value divided by this is the intensity in [0, 1]."""


def scale_inside(
    volume: NDArray[np.float32], mask: NDArray[np.bool_], percentiles: tuple[float, float]
) -> NDArray[np.float32]:
    """Map two percentiles of the voxels inside the mask to 0 and 1 and clip.

    MONAI's ``ScaleIntensityRangePercentiles`` cannot restrict the percentiles to a mask, hence
    these lines. The same map is applied outside the mask, so air stays dark and the skull keeps
    its contrast. MR intensities have no unit, so each acquired volume is scaled by itself.

    Args:
        volume: intensities, any shape.
        mask: True inside the head or brain; the same shape, not empty.
        percentiles: lower and upper percentile, in percent.

    Returns:
        Intensities in [0, 1], the shape of ``volume``.

    Raises:
        ValueError: the two percentiles coincide: the volume is constant inside the mask.
    """
    low, high = np.percentile(volume[mask], percentiles)
    if not high > low:
        raise ValueError(f"percentiles {percentiles} inside the mask are both {low:g}")
    scaled = (volume.astype(np.float64) - low) / (high - low)
    return np.asarray(np.clip(scaled, 0.0, 1.0), dtype=np.float32)


def to_levels(intensity: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Store intensities in [0, 1] as 16-bit levels; the rounding error is at most 1/131070."""
    return np.rint(intensity.astype(np.float64) * LEVELS).astype(np.uint16)
