"""SynthRAD2025: synthetic CT inside the body mask, values from -1024 to 3071 HU, with MS-SSIM.

As in the organisers' evaluation (github.com/SynthRAD2025/evaluation, ``image_metrics.py``, commit
17cac47), of which only the image metrics are computed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from lightning_modules.metrics import psnr
from lightning_modules.metrics.interface import ImagePair, Metric
from lightning_modules.metrics.presets.interface import HOUNSFIELD, MAE_HU, Preset, by_name
from lightning_modules.metrics.tissues.mae import TISSUE_FACTS, TISSUE_MAE

LOW, HIGH = -1024.0, 3071.0
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales, finest first (Wang et al. 2003, doi:10.1109/ACSSC.2003.1292216)."""
_LEAST = 97
"""Volumes are padded to so many voxels, which are 7 after four halvings: one window."""
_SIDE = 7
_BORDER = _SIDE // 2


def _psnr(images: ImagePair) -> float:
    return images.clipped(LOW, HIGH).psnr(HIGH - LOW)


def ms_ssim(target: Any, prediction: Any, mask: Any) -> float:
    """Masked multi-scale SSIM, as the organisers compute it.

    It differs from the paper: luminance counts at every scale with that scale's weight, and the
    halving looks one voxel back and sees zeros before the border.

    Args:
        target: float64 array, three axes; HU.
        prediction: likewise.
        mask: bool array.

    Returns:
        A value in [0, 1]. NaN where no voxel of the mask is left at the coarsest scale.
    """
    # Imported here, as a list of metrics should not wait for them.
    import numpy as np

    padding = [_padding(length) for length in mask.shape]
    target, prediction = (
        np.pad(np.where(mask, np.clip(image, LOW, HIGH), LOW) - LOW, padding, mode="edge")
        for image in (target, prediction)
    )
    inside = np.pad(mask, padding, mode="edge")
    inner = (slice(_BORDER, -_BORDER),) * 3
    product = 1.0
    for weight in WEIGHTS:
        found = _similarity(target, prediction, weight)[inner][inside[inner]]
        value = float(found.mean()) if found.size else math.nan
        product *= float(np.clip(value, 0.0, 1.0))
        target, prediction = _halved(target), _halved(prediction)
        inside = inside[::2, ::2, ::2]
    return product


def _similarity(target: Any, prediction: Any, weight: float) -> Any:
    """Luminance, contrast and structure of every voxel, each to the power of ``weight``."""
    import numpy as np
    from scipy.ndimage import uniform_filter

    first, second = (0.01 * (HIGH - LOW)) ** 2, (0.03 * (HIGH - LOW)) ** 2
    third = second / 2
    sample = _SIDE**3 / (_SIDE**3 - 1)

    def mean(values: Any) -> Any:
        return uniform_filter(values, _SIDE)

    mean_t, mean_p = mean(target), mean(prediction)
    variance_t = sample * (mean(target * target) - mean_t * mean_t)
    variance_p = sample * (mean(prediction * prediction) - mean_p * mean_p)
    together = sample * (mean(target * prediction) - mean_t * mean_p)
    # Rounding makes the variance of a constant slightly negative.
    spread = np.sqrt(np.maximum(variance_t, 0)) * np.sqrt(np.maximum(variance_p, 0))
    luminance = (2 * mean_t * mean_p + first) / (mean_t * mean_t + mean_p * mean_p + first)
    contrast = (2 * spread + second) / (variance_t + variance_p + second)
    structure = (together + third) / (spread + third)
    parts = (np.maximum(part, 0) for part in (luminance, contrast, structure))
    return math.prod(parts) ** weight


def _padding(length: int) -> tuple[int, int]:
    missing = max(_LEAST - length, 0)
    return missing // 2, missing - missing // 2


def _halved(image: Any) -> Any:
    """Means over two voxels along each axis, this one and the one before, then every second one."""
    import numpy as np

    for axis in range(3):
        before = np.roll(image, 1, axis=axis)
        before[(slice(None),) * axis + (0,)] = 0
        image = (image + before) / 2
        image = image[(slice(None),) * axis + (slice(None, None, 2),)]
    return image


def _ms_ssim(images: ImagePair) -> float:
    return ms_ssim(images.target.numpy(), images.prediction.numpy(), images.mask.numpy())


MS_SSIM = Metric(
    name="ms_ssim",
    label="MS-SSIM",
    unit="",
    better="higher",
    range=(0.0, 1.0),
    decimals=3,
    region="mask",
    shared=True,
    in_rounds=True,
    measure=_ms_ssim,
)

PRESET = Preset(
    name="synthrad2025",
    unit=HOUNSFIELD,
    metrics=by_name(MAE_HU, replace(psnr.METRIC, measure=_psnr), MS_SSIM, *TISSUE_MAE),
    facts={
        "data_range": HIGH - LOW,
        "clip": [LOW, HIGH],
        "mask": "body mask of the scan, or its foreground; MAE without clipping",
        "dimensions": (
            "3-D on the scan's own grid; MS-SSIM over five scales with a uniform window of 7 "
            "voxels, padded to 97 voxels, luminance at every scale"
        ),
        "tissues": TISSUE_FACTS,
        "grid": "the scan's own",
        "aggregation": "one value per patient",
    },
    shown=(-1000.0, 1000.0),
)
