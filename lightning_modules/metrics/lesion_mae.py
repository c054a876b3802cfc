"""Mean absolute error inside the lesion, also where it reaches over the mask."""

from __future__ import annotations

from lightning_modules.metrics.interface import ImagePair, Metric


def _measure(images: ImagePair) -> float:
    difference = images.prediction - images.target
    return float(difference[images.lesion].abs().mean())


METRIC = Metric(
    name="lesion_mae",
    label="MAE inside the lesion",
    unit="",
    better="lower",
    range=(0.0, 1.0),
    decimals=None,
    region="lesion",
    shared=True,
    in_rounds=True,
    measure=_measure,
)
