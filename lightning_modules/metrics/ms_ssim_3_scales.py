"""Multi-scale structural similarity over three scales, inside the mask.

Wang, Simoncelli and Bovik 2003 (doi:10.1109/ACSSC.2003.1292216) take five scales, which need slices
of 176 pixels. Here are the first three, so that no value can be compared with a published one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightning_modules.metrics.gmsd import halved, halved_mask
from lightning_modules.metrics.interface import ImagePair, Metric

if TYPE_CHECKING:
    from lightning_modules.metrics.interface import Image, Inside

WEIGHTS = (0.071055, 0.452974, 0.475971)
"""Of the scales, finest first: those of the paper's first three scales, divided by their sum."""
LEAST_SIDE = 44
"""Rows and columns: the window of 11 pixels fits into a slice that was halved twice."""
_REACH = 5
"""Pixels that the window reaches to each side."""
_FIRST, _SECOND = 0.01**2, 0.03**2


def ms_ssim(prediction: Image, target: Image, inside: Inside) -> float | None:
    """MS-SSIM of one slice; a scale without any likeness makes it 0.

    Args:
        prediction: (rows, columns) of at least 44 pixels, values in [0, 1].
        target: same shape.
        inside: same shape; the pixels over which the map of every scale is averaged, those of a
            coarser scale where all pixels that it averages are inside.

    Returns:
        A value in [0, 1]; None where a coarser scale has no pixel inside.
    """
    # Imported here, as a list of metrics should not wait for it.
    import numpy as np

    product = 1.0
    inner = (slice(_REACH, -_REACH),) * 2
    for scale, weight in enumerate(WEIGHTS):
        if scale > 0:
            even = tuple(slice(length // 2 * 2) for length in inside.shape)
            prediction, target = halved(prediction[even]), halved(target[even])
            inside = halved_mask(inside[even])
        luminance, contrast = _maps(prediction, target)
        if scale == len(WEIGHTS) - 1:
            found = (luminance * contrast)[inside]
        else:
            found = contrast[inner][inside[inner]]
        if not found.size:
            return None
        product *= float(np.maximum(found.mean(), 0.0)) ** weight
    return product


def _maps(prediction: Image, target: Image) -> tuple[Image, Image]:
    """Luminance, and contrast with structure, of every pixel."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    def blurred(image: Image) -> Image:
        smooth: Image = gaussian_filter(image, 1.5, mode="mirror", radius=_REACH)
        return smooth

    mean_p, mean_t = blurred(prediction), blurred(target)
    variance_p = np.maximum(blurred(prediction**2) - mean_p**2, 0.0)
    variance_t = np.maximum(blurred(target**2) - mean_t**2, 0.0)
    together = blurred(prediction * target) - mean_p * mean_t
    return (
        (2 * mean_p * mean_t + _FIRST) / (mean_p**2 + mean_t**2 + _FIRST),
        (2 * together + _SECOND) / (variance_p + variance_t + _SECOND),
    )


def _measure(images: ImagePair) -> float:
    """The mean over slices; NaN for slices of fewer than 44 pixels a side."""
    if min(images.target.shape[1:]) < LEAST_SIDE:
        return math.nan
    return images.mean_over_slices(ms_ssim)


METRIC = Metric(
    name="ms_ssim_3_scales",
    label="MS-SSIM (3 scales, not comparable with published values)",
    unit="",
    better="higher",
    range=(0.0, 1.0),
    decimals=3,
    region="mask",
    shared=True,
    in_rounds=False,
    measure=_measure,
)
