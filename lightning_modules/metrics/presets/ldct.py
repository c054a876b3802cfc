"""Low-dose CT as in ldct-benchmark (Eulig et al., Medical Physics 51, 2024, doi:10.1002/mp.17379).

Slice by slice over the whole slice, without a mask, as in its ``ldctbench/evaluate/utils.py``. PSNR
and SSIM look through the window of the anatomy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lightning_modules.metrics import psnr, ssim, vif
from lightning_modules.metrics.interface import ImagePair, Metric
from lightning_modules.metrics.presets.interface import HOUNSFIELD, MOST_HU, Preset, by_name

LOW, HIGH = -1024.0, 1900.0
"""0 to 2924 of HU + 1024: the range of RMSE and VIF."""
WINDOWS = {"chest": (-600.0, 1500.0), "abdomen": (50.0, 400.0), "head": (40.0, 80.0)}
"""Centre and width in HU of the window in which PSNR and SSIM are computed."""


def windowed(values: Any, anatomy: str) -> Any:
    """HU through the window of an anatomy, as values in [0, 1].

    Centre and width as DICOM has them (PS3.3, C.11.2.1.2): 40 and 80 go from 0 to 79.

    Raises:
        KeyError: no such anatomy.
    """
    centre, width = WINDOWS[anatomy]
    return ((values - (centre - 0.5)) / (width - 1.0) + 0.5).clip(0.0, 1.0)


def _over_slices(images: ImagePair, of_slice: Callable[[Any, Any], float]) -> float:
    """The mean over the slices that the prediction shows; those without an error are left out.

    Their PSNR is infinite. A patient without any other slice has an infinite value.
    """
    import numpy as np

    targets, predictions = images.target.numpy(), images.prediction.numpy()
    shown = range(len(targets)) if images.covered is None else images.covered.nonzero().flatten()
    values = np.array([of_slice(targets[int(i)], predictions[int(i)]) for i in shown])
    finite = values[~np.isposinf(values)]
    return float(finite.mean() if finite.size else values.mean())


def _psnr(images: ImagePair) -> float:
    def of_slice(target: Any, prediction: Any) -> float:
        error = windowed(target, images.anatomy) - windowed(prediction, images.anatomy)
        mean_squared = float((error**2).mean())
        return math.inf if mean_squared == 0 else -10.0 * math.log10(mean_squared)

    return _over_slices(images, of_slice)


def _ssim(images: ImagePair) -> float:
    from skimage.metrics import structural_similarity

    def of_slice(target: Any, prediction: Any) -> float:
        both = (windowed(image, images.anatomy) for image in (target, prediction))
        return float(structural_similarity(*both, data_range=1.0))

    return _over_slices(images, of_slice)


def _rmse(images: ImagePair) -> float:
    def of_slice(target: Any, prediction: Any) -> float:
        error = target.clip(LOW, HIGH) - prediction.clip(LOW, HIGH)
        return float((error**2).mean() ** 0.5)

    return _over_slices(images, of_slice)


def _vif(images: ImagePair) -> float:
    """Visual information fidelity in the pixel domain; NaN for small slices.

    The benchmark hands the target over as the image to be judged and the prediction as the
    reference. VIF is not symmetric, so that is kept.
    """
    if min(images.target.shape[1:]) < vif.LEAST_SIDE:
        return math.nan

    def of_slice(target: Any, prediction: Any) -> float:
        judged, reference = (image.clip(LOW, HIGH) - LOW for image in (target, prediction))
        found = vif.visual_information(judged, reference, vif.NOISE)
        return math.nan if found is None else found

    return _over_slices(images, of_slice)


RMSE_HU = Metric(
    name="rmse_hu",
    label="RMSE",
    unit=HOUNSFIELD,
    better="lower",
    range=(0.0, HIGH - LOW),
    decimals=1,
    region="mask",
    shared=True,
    in_rounds=True,
    measure=_rmse,
    sent_up_to=MOST_HU,
)

VIF = replace(vif.METRIC, measure=_vif, in_rounds=True)

PRESET = Preset(
    name="ldct",
    unit=HOUNSFIELD,
    metrics=by_name(
        RMSE_HU, replace(psnr.METRIC, measure=_psnr), replace(ssim.METRIC, measure=_ssim), VIF
    ),
    facts={
        "data_range": 1.0,
        "clip": [LOW, HIGH],
        "windows": {name: list(window) for name, window in WINDOWS.items()},
        "mask": "none: whole slices, as far as the model translated them",
        "dimensions": (
            "2-D, slice by slice; PSNR and SSIM (uniform window of 7 pixels) through the window of "
            "the anatomy scaled to [0, 1], RMSE and VIF of values clipped to -1024 to 1900 HU"
        ),
        "grid": "the scan's own",
        "aggregation": "mean over a patient's slices; slices without an error have no PSNR",
    },
    shown=(-160.0, 240.0),
)
