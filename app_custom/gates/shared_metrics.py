"""What a site's answer may contain, by name. Executor, filter and server agree on this list."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

TRAIN_METRICS = "train_metrics"
"""Meta key of a training answer: round means of the losses and strategy diagnostics."""

_QUALITY = ("psnr", "ssim", "mae", "nrmse", "mse", "lesion_mae")

SHARED_METRICS = frozenset(
    {
        "train/loss_generator",
        "train/loss_discriminator",
        "train/loss_adversarial",
        "train/l1",
        "train/cycle",
        "train/identity",
        "strategy/ratio_generator",
        "strategy/ratio_discriminator",
        *(f"val/{name}" for name in _QUALITY),
        *(f"personal/{name}" for name in _QUALITY),
        "time/train_seconds",
        "time/validate_seconds",
    }
)
"""Numbers about a round that a site may send; each is one mean over slices or patients."""


def shared_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that may leave, as plain floats; others, and what is no number, stay behind."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if name in SHARED_METRICS and isinstance(value, Real) and math.isfinite(value)
    }
