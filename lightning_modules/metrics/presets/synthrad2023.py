"""SynthRAD2023: synthetic CT inside the body mask, values from -1024 to 3000 HU.

As in the organisers' metrics (github.com/SynthRAD2023/metrics, ``functions/image_metrics.py``), of
which only the image metrics are computed; Huijben et al., Medical Image Analysis 97, 2024,
doi:10.1016/j.media.2024.103276.
"""

from __future__ import annotations

import math
from dataclasses import replace

from lightning_modules.metrics import psnr, ssim
from lightning_modules.metrics.interface import ImagePair
from lightning_modules.metrics.presets.interface import HOUNSFIELD, MAE_HU, Preset, by_name
from lightning_modules.metrics.tissues.mae import TISSUE_FACTS, TISSUE_MAE

LOW, HIGH = -1024.0, 3000.0
_SIDE = 7
"""Of the uniform window of SSIM, in voxels; half of it is cut off at each side."""


def _psnr(images: ImagePair) -> float:
    return images.clipped(LOW, HIGH).psnr(HIGH - LOW)


def _ssim(images: ImagePair) -> float:
    """Of the volumes with ``LOW`` outside the mask; the map's mean over the mask.

    NaN for volumes that are smaller than the window, or whose mask lies within three voxels of the
    border.
    """
    # Imported here, as a list of metrics should not wait for it.
    from skimage.metrics import structural_similarity

    mask = images.mask.numpy()
    if min(mask.shape) < _SIDE:
        return math.nan
    both = images.clipped(LOW, HIGH)
    _, found = structural_similarity(
        both.target.where(images.mask, LOW).numpy() - LOW,
        both.prediction.where(images.mask, LOW).numpy() - LOW,
        data_range=HIGH - LOW,
        full=True,
    )
    inner = (slice(_SIDE // 2, -(_SIDE // 2)),) * 3
    inside = found[inner][mask[inner]]
    return float(inside.mean()) if inside.size else math.nan


PRESET = Preset(
    name="synthrad2023",
    unit=HOUNSFIELD,
    metrics=by_name(
        MAE_HU,
        replace(psnr.METRIC, measure=_psnr),
        replace(ssim.METRIC, measure=_ssim),
        *TISSUE_MAE,
    ),
    facts={
        "data_range": HIGH - LOW,
        "clip": [LOW, HIGH],
        "mask": "body mask of the scan, or its foreground; MAE without clipping",
        "dimensions": (
            "3-D on the scan's own grid; SSIM with a uniform window of 7 voxels, sample "
            "covariance, three voxels cut off at each side"
        ),
        "tissues": TISSUE_FACTS,
        "grid": "the scan's own",
        "aggregation": "one value per patient",
    },
    shown=(-1000.0, 1000.0),
)
