"""This list names the numbers that a site may send; executor, gates and server agree on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

from nvflare.apis.analytix import ANALYTIC_EVENT_TYPE
from nvflare.app_common.widgets.convert_to_fed_event import FED_EVENT_PREFIX, ConvertToFedEvent

from lightning_modules.metrics.catalogue import METRICS
from lightning_modules.metrics.interface import Metric
from lightning_modules.model_networks import MODELS, ROLES

TRAIN_METRICS = "train_metrics"
"""Meta key of a training answer: round means of the losses and strategy diagnostics."""

EPSILON_ROUND = "privacy/epsilon_round"
EPSILON_TOTAL = "privacy/epsilon_total"
"""What a site's differential privacy has spent: it follows from settings, not from images."""


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
            EPSILON_ROUND,
            EPSILON_TOTAL,
        }
    )


SHARED_METRICS = names_that_may_leave(METRICS)
"""Numbers about a round that a site may send; each is one mean over slices or patients."""


def shared_metrics(measured: Mapping[str, float]) -> dict[str, float]:
    """Select the metrics that may leave, as plain floats; all else and non-numbers stay behind."""
    return {
        name: float(value)
        for name, value in measured.items()
        if name in SHARED_METRICS and isinstance(value, Real) and math.isfinite(value)
    }


class SharedCurves(ConvertToFedEvent):
    """Sends the points of curves and picture panels to the server, and no other event.

    In NVFlare's own widget a job chooses the events, and may name those that carry the site's log:
    names of files and patients, which pass no filter on this way. What becomes a curve is decided
    at the site (``share_curves``, ``share_images``).
    """

    def __init__(self) -> None:
        super().__init__([ANALYTIC_EVENT_TYPE], FED_EVENT_PREFIX)
