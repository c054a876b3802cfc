"""Gradient magnitude similarity deviation, inside the mask (doi:10.1109/TIP.2013.2293423).

Xue et al., IEEE Transactions on Image Processing 23, 2014. How unevenly the gradients of a slice
differ; 0 where prediction and target have equal gradients. An empty background would count as
perfect, so only the mask does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_modules.metrics.interface import ImagePair, Metric

if TYPE_CHECKING:
    from lightning_modules.metrics.interface import Image, Inside

_CONSTANT = 170 / 255**2


def halved(image: Image) -> Image:
    """Means of 2 x 2 pixels; an odd number of rows or columns ends with zeros."""
    # Imported here, as a list of metrics should not wait for it.
    import numpy as np

    if any(length % 2 for length in image.shape):
        image = np.pad(image, [(0, length % 2) for length in image.shape])
    # Four times as quick as a mean over reshaped axes, and this is done for every slice.
    rows = image[::2] + image[1::2]
    smaller: Image = (rows[:, ::2] + rows[:, 1::2]) / 4
    return smaller


def halved_mask(inside: Inside) -> Inside:
    """The pixels of a halved image of which all four lie inside the mask."""
    whole: Inside = halved(inside.astype(float)) == 1
    return whole


def gradient_similarity(prediction: Image, target: Image) -> Image:
    """Similarity of the gradient magnitudes, in (0, 1].

    Args:
        prediction: (rows, columns), values in [0, 1].
        target: same shape.

    Returns:
        Half as many rows and columns: 2 x 2 pixels are averaged first.
    """
    # Imported here, as a list of metrics should not wait for it.
    import numpy as np
    from scipy.ndimage import prewitt

    one, other = (
        np.hypot(*(prewitt(halved(image), axis, mode="constant") / 3 for axis in (0, 1)))
        for image in (prediction, target)
    )
    similarity: Image = (2 * one * other + _CONSTANT) / (one**2 + other**2 + _CONSTANT)
    return similarity


def _of_slice(prediction: Image, target: Image, inside: Inside) -> float | None:
    similarity = gradient_similarity(prediction, target)[halved_mask(inside)]
    return float(similarity.std()) if similarity.size else None


def _measure(images: ImagePair) -> float:
    """The mean over slices; NaN where the mask holds no 2 x 2 pixels."""
    return images.mean_over_slices(_of_slice)


METRIC = Metric(
    name="gmsd",
    label="GMSD",
    unit="",
    better="lower",
    # The deviation of values between 0 and 1.
    range=(0.0, 0.5),
    decimals=4,
    region="mask",
    shared=True,
    in_rounds=False,
    measure=_measure,
)
