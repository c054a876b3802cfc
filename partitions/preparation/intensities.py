"""From the values of a scan to intensities in [0, 1] and to 16-bit levels, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partitions.preparation.scaling import HOUNSFIELD, RAW, SUV, SUV_UNIT, Scaling

_AIR = -1000.0
"""In HU."""
LEVELS = 65535
"""Largest stored value: a stored value divided by this is the intensity in [0, 1]."""


@dataclass(frozen=True)
class Scale:
    """The scale of one prepared volume.

    Attributes:
        low: the value that becomes intensity 0; what is below it is clipped.
        high: the largest value that is kept; what is above it is clipped.
        unit: of both, or "" where the values have none.
    """

    low: float
    high: float
    unit: str = ""

    @property
    def span(self) -> float:
        """The difference in value between the intensities 0 and 1.

        It is ``high - low``, but for HU: there a whole number of levels makes one HU, so that the
        whole numbers of which a CT consists come back exactly. The window from -1024 to 3071 has 16
        levels per HU, and its end is at intensity 65520 / 65535.
        """
        width = self.high - self.low
        per_value = LEVELS // width
        return LEVELS / per_value if self.unit == HOUNSFIELD and per_value else width

    def to_intensity(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Values of the scan, any shape, as intensities in [0, 1]; computed in float64."""
        found = values.astype(np.float64)  # a copy, which the steps change in place
        np.clip(found, self.low, self.high, out=found)
        found -= self.low
        found /= self.span
        return found.astype(np.float32)

    def to_unit(self, intensity: NDArray[Any]) -> NDArray[np.float64]:
        """Intensities, clipped to [0, 1], as values from ``low`` to ``high``."""
        kept = np.clip(intensity.astype(np.float64), 0.0, 1.0)
        return np.minimum(self.low + kept * self.span, self.high)

    def levels_to_unit(self, levels: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Stored levels as values; exact for whole HU, see `span`."""
        return np.minimum(self.low + levels * self.span / LEVELS, self.high)


def scale_of(
    volume: NDArray[np.float32],
    mask: NDArray[np.bool_],
    scaling: Scaling,
    percentiles: tuple[float, float],
) -> Scale:
    """The scale of one volume, from its own voxels or from the configuration.

    Percentiles are of the voxels inside the mask, which MONAI's ``ScaleIntensityRangePercentiles``
    cannot do. The same map is applied outside the mask, so air stays dark and the skull keeps its
    contrast.

    Args:
        volume: values in the unit of ``scaling``, any shape.
        mask: True inside the head or body; the same shape, not empty.
        scaling: how the domain is scaled.
        percentiles: lower and upper percentile, in percent.

    Raises:
        ValueError: nothing could be told apart inside the mask: the two limits coincide, or all
            voxels lie at or beyond one end of a fixed window.
    """
    fixed = fixed_scale(scaling)
    if fixed is not None:
        inside = np.clip(volume[mask], fixed.low, fixed.high)
        if inside.min() == inside.max():
            raise ValueError(
                f"between {fixed.low:g} and {fixed.high:g} {fixed.unit} nothing lies inside it, "
                f"values go from {volume[mask].min():g} to {volume[mask].max():g}"
            )
        return fixed
    if scaling.kind == RAW:
        low, high = float(volume.min()), float(volume.max())
    else:
        low, high = (float(limit) for limit in np.percentile(volume[mask], percentiles))
    if not high > low:
        which = (
            "smallest and largest value" if scaling.kind == RAW else f"percentiles {percentiles}"
        )
        raise ValueError(f"{which} are both {low:g}")
    return Scale(low, high, scaling.unit)


def fixed_scale(scaling: Scaling) -> Scale | None:
    """The scale of every volume of a domain, and of its translations; None where each has its own.

    A translation of a domain without a fixed scale has no unit: only its intensities in [0, 1].
    """
    if not scaling.is_fixed:
        return None
    low, high = scaling.limits()
    return Scale(low, high, SUV_UNIT if scaling.kind == SUV else scaling.unit)


def empty_intensity(scaling: Scaling) -> float:
    """The intensity in [0, 1] where there is nothing, as beyond the edges of a slice.

    Air is -1000 HU by the definition of the unit; what has another unit is 0 there. Where each
    volume has its own scale, nothing is the darkest: intensity 0, with which slices are padded.
    """
    scale = fixed_scale(scaling)
    if scale is None:
        return 0.0
    return float(scale.to_intensity(np.asarray(_AIR if scale.unit == HOUNSFIELD else 0.0)))


def to_levels(intensity: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Store intensities in [0, 1] as 16-bit levels; the rounding error is at most 1/131070."""
    return np.rint(intensity.astype(np.float64) * LEVELS).astype(np.uint16)
