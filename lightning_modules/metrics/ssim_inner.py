"""SSIM of the windows that lie wholly inside the mask.

``ssim`` counts the rim too, where windows see the zeros outside the mask, equal in both images.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightning_modules.metrics.interface import ImagePair, Metric
from lightning_modules.metrics.ssim import WINDOW

if TYPE_CHECKING:
    from torch import Tensor


def eroded(mask: Tensor) -> Tensor:
    """The pixels of every slice whose window lies inside the mask, as far as it shows the slice.

    Shapes: (slices, rows, columns), bool; returns the same.
    """
    # Imported here, as a list of metrics should not wait for them.
    import torch
    from scipy.ndimage import minimum_filter

    window = (1, WINDOW, WINDOW)
    return torch.from_numpy(minimum_filter(mask.numpy(), window, mode="constant", cval=True))


def _measure(images: ImagePair) -> float:
    """NaN where no window lies inside the mask, or slices are smaller than the window."""
    if images.similarity is None:
        return math.nan
    # The mean over no pixel is NaN.
    return float(images.similarity[eroded(images.mask)].mean())


METRIC = Metric(
    name="ssim_inner",
    label="SSIM without the rim of the mask",
    unit="",
    better="higher",
    range=(-1.0, 1.0),
    decimals=3,
    region="mask",
    shared=True,
    in_rounds=False,
    measure=_measure,
)
