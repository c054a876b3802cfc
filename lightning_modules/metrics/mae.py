"""Mean absolute error inside the mask."""

from __future__ import annotations

from lightning_modules.metrics.interface import ImagePair, Metric


def _measure(images: ImagePair) -> float:
    return float(images.error.abs().mean())


METRIC = Metric(
    name="mae",
    label="MAE",
    unit="",
    better="lower",
    range=(0.0, 1.0),
    decimals=None,
    region="mask",
    shared=True,
    in_rounds=True,
    measure=_measure,
)
