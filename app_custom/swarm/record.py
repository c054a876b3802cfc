"""What an aggregating site tells the server about a round of a swarm: numbers and no model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nvflare.apis.shareable import Shareable

from app_custom.gates.shared_metrics import SHARED_METRICS
from fedi2i.metric_files import RECEIVED, SENT

TOPIC = "fedi2i.round_record"
"""Of the auxiliary message that carries it."""

SiteRow = tuple[str, str, float]
"""Site, metric and value."""
_ALLOWED = SHARED_METRICS | {SENT, RECEIVED}
_KEY = "round_record"


@dataclass(frozen=True)
class RoundRecord:
    """One round, as the site that aggregates it saw it.

    Attributes:
        round_number: counted from 0.
        accepted: the sites whose updates go into the round's mean.
        rows: what FedAvg's server would know of the sites besides their models.
    """

    round_number: int
    accepted: tuple[str, ...]
    rows: tuple[SiteRow, ...]

    def to_shareable(self) -> Shareable:
        """As a message."""
        rows = [list(row) for row in self.rows]
        return Shareable({_KEY: [self.round_number, list(self.accepted), rows]})


def record_from(message: Shareable) -> RoundRecord:
    """The record in a message, checked.

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
        if metric not in _ALLOWED or not math.isfinite(value):
            raise ValueError(f"'{metric}' = {value} is not on the list of what may leave")
    return record
