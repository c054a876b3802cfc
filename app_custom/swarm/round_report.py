"""An aggregating site of a swarm reports every round to the server: numbers and no model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from nvflare.apis.dxo import MetaKey, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.widgets.widget import Widget

from app_custom.gates.shared_metrics import (
    BOUNDS,
    SHARED_METRICS,
    TRAIN_METRICS,
    is_possible,
    shared_metrics,
)
from app_custom.nvflare_context import peer_name, site_name
from fedi2i.metric_files import RECEIVED, SAMPLES, SENT
from lightning_modules.combining.updates import Weights

TOPIC = "fedi2i.round_record"
"""Topic of the auxiliary message that carries a record."""

SiteRow = tuple[str, str, float]
"""Site, metric and value."""
_ALLOWED = SHARED_METRICS | {SENT, RECEIVED, SAMPLES}
_KEY = "round_record"


@dataclass(frozen=True)
class RoundRecord:
    """Holds what the aggregating site saw of one round.

    Attributes:
        round_number: counted from 0.
        accepted: the sites whose updates go into the round's mean.
        rows: what FedAvg's server would know of the sites besides their models.
    """

    round_number: int
    accepted: tuple[str, ...]
    rows: tuple[SiteRow, ...]

    def to_shareable(self) -> Shareable:
        """Make it a message."""
        rows = [list(row) for row in self.rows]
        return Shareable({_KEY: [self.round_number, list(self.accepted), rows]})


def record_from(message: Shareable) -> RoundRecord:
    """Read and check the record in a message.

    Raises:
        ValueError: it is no record, or holds a metric that is not on the list of what may leave.
    """
    try:
        round_number, accepted, rows = message[_KEY]
        checked = tuple((str(site), str(metric), float(value)) for site, metric, value in rows)
        record = RoundRecord(int(round_number), tuple(str(site) for site in accepted), checked)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("it is not a record of a round") from error
    for _, metric, value in record.rows:
        possible = is_possible(metric, value) if metric in BOUNDS else math.isfinite(value)
        if metric not in _ALLOWED or not possible:
            raise ValueError(f"'{metric}' = {value} is not on the list of what may leave")
    return record


class RoundReport(Widget):
    """Sends a ``RoundRecord`` when all answers of a round are in; other sites' widgets are silent.

    It is sent before the aggregation: where an update was refused, the server learns whose it was
    and ends the job.

    Args:
        starting_site: the site whose initial model all sites start from.
        timeout: seconds to wait for the server's receipt.
    """

    def __init__(self, starting_site: str, timeout: float = 60.0) -> None:
        super().__init__()
        self._starting_site = starting_site
        self._timeout = timeout
        self._accepted: list[str] = []
        self._rows: list[SiteRow] = []

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Collect answers as they are accepted; report before they are combined."""
        if event_type == AppEventType.ROUND_STARTED:
            self._accepted, self._rows = [], []
        elif event_type == AppEventType.AFTER_CONTRIBUTION_ACCEPT:
            self._note(fl_ctx)
        elif event_type == AppEventType.BEFORE_AGGREGATION:
            self._report(fl_ctx)

    def _note(self, fl_ctx: FLContext) -> None:
        if not fl_ctx.get_prop(AppConstants.AGGREGATION_ACCEPTED):
            return
        site = peer_name(fl_ctx)
        update = from_shareable(fl_ctx.get_prop(AppConstants.TRAINING_RESULT))
        self._accepted.append(site)
        claimed: dict[str, float] = {}  # what a site says twice counts once
        for name in (TRAIN_METRICS, MetaKey.INITIAL_METRICS):
            claimed |= shared_metrics(update.get_meta_prop(name) or {})
        self._rows += [(site, metric, value) for metric, value in claimed.items()]
        samples = update.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND)
        self._rows.append((site, SAMPLES, float(samples)))
        travelled = _size(update.data) if site != site_name(fl_ctx) else 0.0
        self._rows.append((site, RECEIVED, travelled))

    def _report(self, fl_ctx: FLContext) -> None:
        engine, round_number = fl_ctx.get_engine(), int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND))
        rows = sorted(self._rows + self._sent(round_number, fl_ctx))
        record = RoundRecord(round_number, tuple(sorted(self._accepted)), tuple(rows))
        replies = engine.send_aux_request(
            targets=[FQCN.ROOT_SERVER],
            topic=TOPIC,
            request=record.to_shareable(),
            timeout=self._timeout,
            fl_ctx=fl_ctx,
        )
        reply = replies.get(FQCN.ROOT_SERVER)
        if reply is None or reply.get_return_code() != ReturnCode.OK:
            self.log_error(
                fl_ctx, f"the server has not taken the record of round {round_number}: {reply}"
            )

    def _sent(self, round_number: int, fl_ctx: FLContext) -> list[SiteRow]:
        """Count the bytes of the mean that goes out next; in round 0 the initial model's too."""
        size = _size(fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)["weights"])
        rows: list[SiteRow] = []
        for site in (client.name for client in fl_ctx.get_engine().get_clients()):
            copies = (site != site_name(fl_ctx)) + (
                round_number == 0 and site != self._starting_site
            )
            rows.append((site, SENT, copies * size))
        return rows


def _size(arrays: Weights) -> float:
    return float(sum(value.nbytes for value in arrays.values() if isinstance(value, np.ndarray)))
