"""All metrics, found by walking this package, and the preset that they make together.

Intensities are the acquired volume's own robust percentiles scaled to [0, 1]; a prediction is never
rescaled by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import lightning_modules.metrics as package
from fedi2i.catalogue import members
from lightning_modules.metrics.interface import ImagePair, Metric

METRICS: Mapping[str, Metric] = members(package, "METRIC")
"""Every metric by its name, which is the name of its file."""

PRESET = {
    "name": "mr-percentile",
    "data_range": 1.0,
    "clip": [0.0, 1.0],
    "mask": "prepared head or brain mask; both images are 0 outside it",
    "dimensions": (
        "PSNR, MAE, NRMSE over the voxels of the whole prepared volume; SSIM per axial slice "
        "(11x11 Gaussian, sigma 1.5, K 0.01 and 0.03), its map averaged over the mask"
    ),
    "nrmse": "root mean squared error / root mean square of the target, inside the mask",
    "aggregation": "one value per patient",
}


def measure(images: ImagePair) -> dict[str, float]:
    """The value of every metric that has one for these images, by name."""
    return {
        name: metric.measure(images)
        for name, metric in METRICS.items()
        if metric.region == "mask" or images.lesion is not None
    }
