"""Mean absolute error of a synthetic CT inside air, soft tissue and bone of the body.

Bone and air are a small share of a body and decide where radiation goes, so that the error over the
whole mask says little of them. A voxel belongs to the tissue that the *target* shows there. Papers
draw the borders at different values (a review: Spadea et al., Medical Physics 48, 2021,
doi:10.1002/mp.15150); a figure here is comparable with one that has the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from lightning_modules.metrics.interface import ImagePair, Metric
from lightning_modules.metrics.presets.interface import MAE_HU


@dataclass(frozen=True)
class Tissue:
    """A range of values that stands for a tissue.

    Attributes:
        name: as in the name of its metric.
        label: as shown to readers.
        lowest: smallest value in HU that belongs to it.
        below: smallest value in HU above it that does not.
    """

    name: str
    label: str
    lowest: float
    below: float


TISSUES = (
    Tissue("air", "air", -math.inf, -200.0),
    Tissue("soft", "soft tissue", -200.0, 200.0),
    Tissue("bone", "bone", 200.0, math.inf),
)


def _inside(tissue: Tissue) -> Callable[[ImagePair], float]:
    def measure(images: ImagePair) -> float:
        """NaN where the target shows no such voxel inside the mask."""
        target = images.target[images.mask]
        chosen = (target >= tissue.lowest) & (target < tissue.below)
        return float(images.error[chosen].abs().mean())

    return measure


TISSUE_MAE: tuple[Metric, ...] = tuple(
    replace(
        MAE_HU,
        name=f"mae_{tissue.name}_hu",
        label=f"MAE in {tissue.label}",
        in_rounds=False,
        measure=_inside(tissue),
    )
    for tissue in TISSUES
)
"""Measured on finished models alone; no part of a challenge's own evaluation."""
TISSUE_FACTS = "by the target: air below -200 HU, bone from 200 HU, soft tissue between"
"""For the record of a preset that has them."""
