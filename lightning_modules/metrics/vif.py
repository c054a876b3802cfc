"""Visual information fidelity in the pixel domain (doi:10.1109/TIP.2005.859378).

Sheikh and Bovik, IEEE Transactions on Image Processing 15, 2006; as in their ``vifp_mscale``.
How much of what a noisy eye would learn from the target it can learn from the prediction. An empty
background says nothing and does not count. A prediction with more contrast may be above 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightning_modules.metrics.interface import ImagePair, Metric

if TYPE_CHECKING:
    from lightning_modules.metrics.interface import Image, Inside

NOISE = 2.0
"""Variance of the visual noise, for images whose range is 255."""
LEAST_SIDE = 41
"""Rows and columns that the coarsest of the four scales needs."""
_SIDES = (17, 9, 5, 3)
"""Of the Gaussian windows, finest scale first; their standard deviation is a fifth."""
_NOTHING = 1e-10


def visual_information(judged: Image, reference: Image, noise: float) -> float | None:
    """The information that one image keeps of another.

    Args:
        judged: (rows, columns) of at least 41 pixels.
        reference: same shape and unit.
        noise: variance of the visual noise, in the square of that unit.

    Returns:
        0 or more, 1 for the reference itself; None for a constant reference, which says nothing.
    """
    # Imported here, as a list of metrics should not wait for it.
    import numpy as np

    kept = known = 0.0
    for side in _SIDES:
        if side != _SIDES[0]:
            judged, reference = (_blurred(image, side)[::2, ::2] for image in (judged, reference))
        mean_j, mean_r = _blurred(judged, side), _blurred(reference, side)
        spread_j = np.maximum(_blurred(judged**2, side) - mean_j**2, 0.0)
        spread_r = np.maximum(_blurred(reference**2, side) - mean_r**2, 0.0)
        together = _blurred(judged * reference, side) - mean_j * mean_r
        gain = together / (spread_r + _NOTHING)
        lost = spread_j - gain * together
        flat_j, flat_r = spread_j < _NOTHING, spread_r < _NOTHING
        spread_r = np.where(flat_r, 0.0, spread_r)
        nothing_kept = flat_r | flat_j | (gain < 0)
        gain = np.where(nothing_kept, 0.0, gain)
        lost = np.maximum(np.where(nothing_kept, np.where(flat_j, 0.0, spread_j), lost), _NOTHING)
        kept += float(np.log10(1.0 + gain**2 * spread_r / (lost + noise)).sum())
        known += float(np.log10(1.0 + spread_r / noise).sum())
    return kept / known if known > 0 else None


def _blurred(image: Image, side: int) -> Image:
    """Gaussian means of all windows that lie inside the image."""
    import numpy as np
    from scipy.ndimage import correlate1d

    reach = side // 2
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2.0 * (side / 5) ** 2))
    weights /= weights.sum()
    for axis in (0, 1):
        image = correlate1d(image, weights, axis)
    return image[reach:-reach, reach:-reach]


def _measure(images: ImagePair) -> float:
    """The mean over slices; those whose target is constant are left out. NaN for small slices."""
    if min(images.target.shape[1:]) < LEAST_SIDE:
        return math.nan

    def of_slice(prediction: Image, target: Image, _: Inside) -> float | None:
        return visual_information(prediction, target, NOISE / 255**2)

    return images.mean_over_slices(of_slice)


METRIC = Metric(
    name="vif",
    label="VIF",
    unit="",
    better="higher",
    range=(0.0, math.inf),
    decimals=3,
    region="mask",
    shared=True,
    in_rounds=False,
    measure=_measure,
    # 1 for the target itself; a prediction with more contrast may be above it.
    sent_up_to=100.0,
)
