"""MR: intensities are the acquired volume's own robust percentiles scaled to [0, 1].

A prediction is never rescaled by itself.
"""

from __future__ import annotations

from lightning_modules.metrics.catalogue import METRICS
from lightning_modules.metrics.presets.interface import Preset

PRESET = Preset(
    name="mr",
    unit="",
    metrics=METRICS,
    facts={
        "data_range": 1.0,
        "clip": [0.0, 1.0],
        "mask": "prepared head or brain mask; both images are 0 outside it",
        "dimensions": (
            "PSNR, MAE, NRMSE over the voxels of the whole prepared volume; SSIM per axial slice "
            "(11x11 Gaussian, sigma 1.5, K 0.01 and 0.03), its map averaged over the mask; "
            "ssim_inner where that window lies inside the mask"
        ),
        "ms_ssim_3_scales": (
            "weights .071055, .452974, .475971; maps averaged over the mask; slices of 44 pixels "
            "or more; five scales need 176, so not comparable with published values"
        ),
        "vif": "pixel domain, noise variance 2/255^2 for range 1; slices of 41 pixels or more",
        "gmsd": "constant 170/255^2 for range 1, inside the mask",
        "haarpsi": "C 30 and alpha 4.2 on range 255",
        "slices": "MS-SSIM, VIF, GMSD, HaarPSI: mean over the axial slices that the mask touches",
        "nrmse": "root mean squared error / root mean square of the target, inside the mask",
        "aggregation": "one value per patient",
    },
    shown=(0.0, 1.0),
)
