"""Structural similarity (Wang et al. 2004, doi:10.1109/TIP.2003.819861), averaged over the mask.

Windows at the rim of the mask see the zeros outside it, which are equal in both images, so that the
value is flattered there: ``ssim_inner`` leaves the rim out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightning_modules.metrics.interface import ImagePair, Metric

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 11
"""Rows and columns of its window, in pixels."""


def ssim_map(prediction: Tensor, target: Tensor) -> Tensor:
    """SSIM of every pixel of every slice.

    scikit-image computes it: its separable filters are some twenty times faster on a CPU than a
    float64 convolution in torch, and need no more memory than the slice.

    Shapes: (slices, rows, columns) twice, values in [0, 1]; returns the same shape, float64.
    Windows that reach over the border see the slice mirrored with its edge pixel repeated.
    """
    # Imported here, as a list of metrics should not wait for them.
    import numpy as np
    import torch
    from skimage.metrics import structural_similarity

    maps = [
        structural_similarity(
            predicted,
            acquired,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            K1=0.01,
            K2=0.03,
            full=True,
        )[1]
        for predicted, acquired in zip(
            prediction.double().numpy(), target.double().numpy(), strict=True
        )
    ]
    return torch.from_numpy(np.stack(maps))


def _measure(images: ImagePair) -> float:
    """Of both images with 0 outside the mask; NaN for slices smaller than the window."""
    similarity = images.similarity
    return math.nan if similarity is None else float(similarity[images.mask].mean())


METRIC = Metric(
    name="ssim",
    label="SSIM",
    unit="",
    better="higher",
    range=(-1.0, 1.0),
    decimals=3,
    region="mask",
    shared=True,
    in_rounds=True,
    measure=_measure,
)
