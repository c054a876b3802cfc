"""This list names the numbers that a site may send; executor, gates and server agree on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

from nvflare.apis.analytix import ANALYTIC_EVENT_TYPE
from nvflare.app_common.widgets.convert_to_fed_event import FED_EVENT_PREFIX, ConvertToFedEvent

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
    """Select the metrics that may leave, as plain floats; all else and non-numbers stay behind."""
    return {
        name: float(value)
        for name, value in metrics.items()
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
