"""This list names the numbers that a site may send; executor, gates and server agree on it."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

from nvflare.apis.analytix import ANALYTIC_EVENT_TYPE
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.widgets.convert_to_fed_event import FED_EVENT_PREFIX, ConvertToFedEvent

from app_custom.gates.study_numbers import is_study_number, study_bounds
from fedi2i.epsilon import EPSILON_ROUND, EPSILON_TOTAL, LEAST_PATIENTS
from fedi2i.metric_files import SOURCE, SOURCE_SPREAD
from lightning_modules.metrics.interface import Metric
from lightning_modules.metrics.presets.catalogue import SENDABLE
from lightning_modules.model_networks import MODELS, ROLES

TRAIN_METRICS = "train_metrics"
"""Meta key of a training answer: round means of the losses and strategy diagnostics."""

Bounds = tuple[float, float]

_LOSS: Bounds = (-1e9, 1e9)
"""Losses have no range of their own; those of a run that diverges pass all the same."""
_RATIO: Bounds = (0.0, 1e9)
_SECONDS: Bounds = (0.0, 1e8)
_INTENSITY: Bounds = (0.0, 1.0)
_EPSILON: Bounds = (0.0, 1e15)
_ROUNDING = 1e-6


def bounds_of_what_may_leave(metrics: Mapping[str, Metric]) -> dict[str, Bounds]:
    """Smallest and largest value by name of all numbers that a site may send.

    Args:
        metrics: the metrics of images; those whose own files do not say that they are shared are
            left out.
    """
    sent = {name: metric for name, metric in metrics.items() if metric.shared}
    shared = {name: metric.sendable for name, metric in sent.items()}
    return {
        **{f"val/{name}": bounds for name, bounds in shared.items()},
        **{f"personal/{name}": bounds for name, bounds in shared.items()},
        **{loss: _LOSS for model in MODELS.values() for loss in model.losses},
        **{f"strategy/ratio_{role}": _RATIO for role in ROLES},
        **dict.fromkeys((*SOURCE, SOURCE_SPREAD), _INTENSITY),
        "time/train_seconds": _SECONDS,
        "time/validate_seconds": _SECONDS,
        EPSILON_ROUND: _EPSILON,
        EPSILON_TOTAL: _EPSILON,
        LEAST_PATIENTS: (1.0, 1e7),
        **study_bounds(sent),
    }


BOUNDS = bounds_of_what_may_leave(SENDABLE)
SHARED_METRICS = frozenset(BOUNDS)
"""Numbers that a site may send; each is one mean over slices or patients, or tells of how many and
how far apart they are."""
IN_ROUNDS = frozenset(name for name in BOUNDS if not is_study_number(name))
"""Those that may go with the training of a round: test patients are measured once, at the end."""


def is_possible(name: str, value: object) -> bool:
    """Whether a listed number has a value that it can have: finite, and within its bounds."""
    low, high = BOUNDS[name]
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return low - _ROUNDING <= float(value) <= high + _ROUNDING
    except OverflowError:  # whole numbers have no end
        return False


def shared_metrics(measured: Mapping[str, float]) -> dict[str, float]:
    """Select the metrics that may leave, as plain floats; all else and what cannot be stay behind.

    A metric that no patient has, or a loss that is NaN, is left out without a word.
    """
    return {
        name: float(value)
        for name, value in measured.items()
        if name in BOUNDS and is_possible(name, value)
    }


def impossible_metrics(claimed: Mapping[str, object]) -> list[str]:
    """Name the listed numbers whose values cannot be, each with what it may be."""
    return [
        f"{name} = {_shown(claimed[name])} (from {BOUNDS[name][0]:g} to {BOUNDS[name][1]:g})"
        for name in sorted(BOUNDS.keys() & claimed.keys())
        if not is_possible(name, claimed[name])
    ]


def _shown(value: object) -> str:
    try:
        return f"{float(value):g}" if isinstance(value, Real) else f"a {type(value).__name__}"
    except OverflowError:  # whole numbers have no end
        return "endless"


class SharedCurves(ConvertToFedEvent):
    """Sends the points of curves and picture panels to the server, and no other event.

    Once the run has ended or failed nothing is sent: nobody is there to take it, and the server
    would log every point as an error.

    In NVFlare's own widget a job chooses the events, and may name those that carry the site's log:
    names of files and patients, which pass no filter on this way. What becomes a curve is decided
    at the site (``share_curves``, ``share_images``).
    """

    def __init__(self) -> None:
        super().__init__([ANALYTIC_EVENT_TYPE], FED_EVENT_PREFIX)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Send a point of a curve while the run goes on."""
        ended = fl_ctx.get_run_abort_signal()
        if ended is None or not ended.triggered:
            super().handle_event(event_type, fl_ctx)
