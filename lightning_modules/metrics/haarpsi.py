"""Haar wavelet-based perceptual similarity (doi:10.1016/j.image.2017.11.001).

Reisenhofer et al., Signal Processing: Image Communication 61, 2018. Pixels weigh as much as there
is structure in them, so that an empty background does not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_modules.metrics.gmsd import halved
from lightning_modules.metrics.interface import ImagePair, Metric

if TYPE_CHECKING:
    from lightning_modules.metrics.interface import Image, Inside

_CONSTANT = 30.0
_STEEPNESS = 4.2
_SIDES = (2, 4, 8)
"""Of the filters, in pixels: the first two give the similarity, the third the weights."""


def haar_similarity(prediction: Image, target: Image) -> float | None:
    """HaarPSI of one slice.

    Args:
        prediction: (rows, columns), values in [0, 1].
        target: same shape.

    Returns:
        A value in [0, 1]; None where neither image has any structure.
    """
    # Imported here, as a list of metrics should not wait for them.
    import numpy as np
    from scipy.special import expit, logit

    small = [255.0 * halved(image) for image in (prediction, target)]
    total = weight = 0.0
    for axis in (0, 1):
        pairs = [[_haar(image, side, axis) for image in small] for side in _SIDES]
        similarity = sum(
            (2 * one * other + _CONSTANT) / (one**2 + other**2 + _CONSTANT)
            for one, other in pairs[:2]
        )
        weights = np.maximum(*pairs[2])
        total += float((weights * expit(_STEEPNESS * similarity / 2)).sum())
        weight += float(weights.sum())
    return None if weight == 0 else float((logit(total / weight) / _STEEPNESS) ** 2)


def _haar(image: Image, side: int, axis: int) -> Image:
    """Size of the Haar coefficients along one axis, zeros outside the image."""
    import numpy as np
    from scipy.ndimage import correlate1d

    half = side // 2
    step = np.repeat([1.0, -1.0], half)
    for along, weights in ((axis, step / side), (1 - axis, np.ones(side))):
        # The window begins half - 1 pixels before and ends half pixels behind.
        image = correlate1d(image, weights, along, mode="constant", origin=-1)
    size: Image = np.abs(image)
    return size


def _measure(images: ImagePair) -> float:
    """The mean over slices, both images 0 outside the mask."""

    def of_slice(prediction: Image, target: Image, _: Inside) -> float | None:
        return haar_similarity(prediction, target)

    return images.mean_over_slices(of_slice)


METRIC = Metric(
    name="haarpsi",
    label="HaarPSI",
    unit="",
    better="higher",
    range=(0.0, 1.0),
    decimals=3,
    region="mask",
    shared=True,
    in_rounds=False,
    measure=_measure,
)
