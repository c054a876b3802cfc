"""Root mean squared error divided by the root mean square of the target, inside the mask."""

from __future__ import annotations

import math

from lightning_modules.metrics.interface import ImagePair, Metric


def _measure(images: ImagePair) -> float:
    size = images.target[images.mask].square().mean().sqrt()
    return float(images.mean_squared_error.sqrt() / size)


METRIC = Metric(
    name="nrmse",
    label="NRMSE",
    unit="",
    better="lower",
    range=(0.0, math.inf),
    decimals=None,
    region="mask",
    shared=True,
    in_rounds=True,
    measure=_measure,
    # The error is at most 1; a target with a thousandth of that as its size is an empty image.
    sent_up_to=1000.0,
)
