"""What a site's answer may contain, by name. Executor, filter and server agree on this list."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

from lightning_modules.metrics.catalogue import METRICS
from lightning_modules.metrics.interface import Metric
from lightning_modules.model_networks import MODELS, ROLES

TRAIN_METRICS = "train_metrics"
"""Meta key of a training answer: round means of the losses and strategy diagnostics."""


def names_that_may_leave(metrics: Mapping[str, Metric]) -> frozenset[str]:
    """All names of numbers that a site may send, with those of some metrics of images.

    Args:
        metrics: the metrics; those whose own files do not say that they are shared are left out.
    """
    shared = [name for name, metric in metrics.items() if metric.shared]
    return frozenset(
        {
            *(f"val/{name}" for name in shared),
            *(f"personal/{name}" for name in shared),
            *(loss for model in MODELS.values() for loss in model.losses),
            *(f"strategy/ratio_{role}" for role in ROLES),
            "time/train_seconds",
            "time/validate_seconds",
        }
    )


SHARED_METRICS = names_that_may_leave(METRICS)
"""Numbers about a round that a site may send; each is one mean over slices or patients."""


def shared_metrics(measured: Mapping[str, float]) -> dict[str, float]:
    """The metrics that may leave, as plain floats; others, and what is no number, stay behind."""
    return {
        name: float(value)
        for name, value in measured.items()
        if name in SHARED_METRICS and isinstance(value, Real) and math.isfinite(value)
    }
