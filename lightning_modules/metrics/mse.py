"""Mean squared error inside the mask."""

from __future__ import annotations

from lightning_modules.metrics.interface import ImagePair, Metric


def _measure(images: ImagePair) -> float:
    return float(images.mean_squared_error)


METRIC = Metric(
    name="mse",
    label="MSE",
    unit="",
    better="lower",
    range=(0.0, 1.0),
    decimals=None,
    region="mask",
    shared=True,
    in_rounds=True,
    measure=_measure,
)
