"""What a site's answer may contain, by name. Executor, filter and server agree on this list."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

from lightning_modules.metrics import metrics
from lightning_modules.model_networks import MODELS, ROLES

TRAIN_METRICS = "train_metrics"
"""Meta key of a training answer: round means of the losses and strategy diagnostics."""

_DECIDED = frozenset(name for name, metric in metrics().items() if metric.shared)
"""Metrics of images whose own files in ``lightning_modules/metrics`` say that they may leave."""

SHARED_METRICS = frozenset(
    {
        *(f"val/{name}" for name in _DECIDED),
        *(f"personal/{name}" for name in _DECIDED),
        *(loss for model in MODELS.values() for loss in model.losses),
        *(f"strategy/ratio_{role}" for role in ROLES),
        "time/train_seconds",
        "time/validate_seconds",
    }
)
"""Numbers about a round that a site may send; each is one mean over slices or patients."""


def shared_metrics(measured: Mapping[str, float]) -> dict[str, float]:
    """The metrics that may leave, as plain floats; others, and what is no number, stay behind."""
    return {
        name: float(value)
        for name, value in measured.items()
        if name in SHARED_METRICS and isinstance(value, Real) and math.isfinite(value)
    }
