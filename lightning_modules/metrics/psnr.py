"""Peak signal-to-noise ratio in dB for a peak of 1; infinite for a perfect prediction."""

from __future__ import annotations

import math

from lightning_modules.metrics.interface import ImagePair, Metric


def _measure(images: ImagePair) -> float:
    return images.psnr(1.0)


METRIC = Metric(
    name="psnr",
    label="PSNR",
    unit="dB",
    better="higher",
    range=(0.0, math.inf),
    decimals=2,
    region="mask",
    shared=True,
    in_rounds=True,
    measure=_measure,
    # Prepared intensities are steps of 1 / 65535: an error of one step everywhere is 96 dB.
    sent_up_to=120.0,
)
