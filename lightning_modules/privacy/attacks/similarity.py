"""How near a reconstruction is to the truth, beside what one gets without any update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.metrics.ssim import ssim_map

Image = NDArray[np.float32]
"""(rows, columns), intensities in [0, 1]."""


@dataclass(frozen=True)
class Likeness:
    """Of two whole slices, the background included.

    Attributes:
        ssim: mean structural similarity.
        psnr: in dB, for a peak of 1.
        r: Pearson's correlation of the pixels; 0 where one of them is constant.
    """

    ssim: float
    psnr: float
    r: float


def likeness(image: Image, truth: Image) -> Likeness:
    """Compare a reconstruction with the truth; the reconstruction is clipped to [0, 1]."""
    shown = np.clip(image, 0.0, 1.0).astype(np.float64)
    similarity = ssim_map(torch.from_numpy(shown)[None], torch.from_numpy(truth)[None])
    squared = float(np.mean((shown - truth) ** 2))
    return Likeness(
        float(similarity.mean()),
        float(-10 * np.log10(max(squared, 1e-12))),
        _correlation(shown, truth),
    )


def nearest(image: Image, others: Sequence[Image]) -> int:
    """The index of the slice that correlates best with an image."""
    return int(np.argmax([_correlation(image, other) for other in others]))


def _correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    if one.std() < 1e-9 or other.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
