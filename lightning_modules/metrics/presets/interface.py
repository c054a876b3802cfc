"""What a preset is: the metrics of one evaluation, and what must be known to compare with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lightning_modules.metrics.interface import ImagePair, Metric

HOUNSFIELD = "HU"
MOST_HU = 10_000.0
"""The largest mean error in HU that a server believes."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One entry of this catalogue.

    Attributes:
        name: as in ``results.csv`` and in an experiment file; the name of its file.
        unit: of the images: ``HU``, or "" for intensities in [0, 1].
        metrics: by name; one of them is ``psnr``, by which models are chosen.
        facts: what else a reader must know, for ``run.json``: ``data_range``, ``clip``, ``mask``,
            ``dimensions``, ``aggregation``, source.
        shown: the window of pictures, in the unit.
    """

    name: str
    unit: str
    metrics: Mapping[str, Metric]
    facts: Mapping[str, Any]
    shown: tuple[float, float]

    @property
    def in_hu(self) -> bool:
        """Whether its images are in HU, and test patients are measured on the scan's own grid."""
        return self.unit == HOUNSFIELD

    @property
    def in_rounds(self) -> Preset:
        """The same without the metrics that are measured on finished models alone."""
        kept = {name: metric for name, metric in self.metrics.items() if metric.in_rounds}
        return replace(self, metrics=kept)

    def measure(self, images: ImagePair) -> dict[str, float]:
        """The value of every metric that has one for these images, by name.

        NaN where a metric is not defined for them, such as MS-SSIM of a tiny mask, or where the
        prediction holds no numbers.
        """
        return {
            name: metric.measure(images)
            for name, metric in self.metrics.items()
            if metric.region == "mask" or images.lesion is not None
        }

    def description(self) -> dict[str, Any]:
        """All but the functions, ready for JSON."""
        low, high = self.shown
        return {
            "name": self.name,
            "unit": self.unit,
            **self.facts,
            "shown": {"low": low, "high": high, "unit": self.unit},
        }


def by_name(*metrics: Metric) -> dict[str, Metric]:
    """Metrics by their names."""
    return {metric.name: metric for metric in metrics}


def mean_absolute_error(images: ImagePair) -> float:
    """Inside the mask, in the unit of the images, without clipping."""
    return float(images.error.abs().mean())


MAE_HU = Metric(
    name="mae_hu",
    label="MAE",
    unit=HOUNSFIELD,
    better="lower",
    range=(0.0, float("inf")),
    decimals=1,
    region="mask",
    shared=True,
    in_rounds=True,
    measure=mean_absolute_error,
    sent_up_to=MOST_HU,
)
"""Mean absolute error in HU: another metric than ``mae``, whose values lie in [0, 1]."""
