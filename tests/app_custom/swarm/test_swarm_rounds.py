from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.ccwf.swarm_server_ctl import SwarmServerController
from nvflare_fakes import Engine, server_runner, with_peer

from app_custom.server.site_watch import STAYS_CONNECTED
from app_custom.swarm.round_report import TOPIC, RoundRecord
from app_custom.swarm.rounds import SwarmRounds

SITES = ("east", "north")
ROUNDS = 3


class Metrics:
    """Takes rows and gives their median, as GlobalMetrics does."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, str, float]] = []

    def add_rows(self, rows: Any) -> None:
        self.rows += rows

    def median(self, metric: str, round_number: int) -> float | None:
        values = [row[3] for row in self.rows if row[1:3] == (round_number, metric)]
        return median(values) if values else None


class ServerEngine(Engine):
    """A server's engine that keeps the handlers of auxiliary messages."""

    def __init__(self, components: dict[str, Any]) -> None:
        super().__init__(sites=SITES, components=components)
        self.handlers: dict[str, Callable[..., Shareable]] = {}

    def register_aux_message_handler(self, topic: str, message_handle_func: Any) -> None:
        self.handlers[topic] = message_handle_func


class Server:
    """A server that looks on."""

    def __init__(self, aborted: bool = False) -> None:
        self.metrics = Metrics()
        self.selector = SimpleNamespace(best_val_metric=-math.inf)
        self.engine = ServerEngine({"metrics": self.metrics, "selector": self.selector})
        self.controller = SwarmServerController(
            num_rounds=ROUNDS, participating_clients=list(SITES), starting_client="east"
        )
        ctx = self.engine.new_context()
        runner = server_runner(self.controller, aborted)
        ctx.set_prop(FLContextKey.RUNNER, runner, private=True, sticky=True)
        self.widget = SwarmRounds(ROUNDS, ["swarm_config"], "val/psnr", "metrics", "selector")
        self.widget.handle_event(EventType.START_RUN, ctx)

    def record(self, number: int, east: float = 20.0, north: float = 22.0, **changes: Any) -> str:
        """Send a record from site north; returns the answer's code."""
        rows = (("east", "val/psnr", east), ("north", "val/psnr", north))
        record = RoundRecord(number, changes.get("accepted", SITES), changes.get("rows", rows))
        ctx = with_peer(self.engine.new_context(), "north")
        reply = self.engine.handlers[TOPIC](TOPIC, record.to_shareable(), ctx)
        return str(reply.get_return_code())

    def round_number(self) -> Any:
        return self.engine.new_context().get_prop(AppConstants.CURRENT_ROUND)

    def fire(self, event_type: str, fl_ctx: FLContext | None = None) -> None:
        self.widget.handle_event(event_type, fl_ctx or self.engine.new_context())


def test_a_record_closes_its_round_with_the_sites_numbers() -> None:
    server = Server()
    assert server.record(0) == ReturnCode.OK
    assert server.metrics.rows == [("east", 0, "val/psnr", 20.0), ("north", 0, "val/psnr", 22.0)]
    assert server.round_number() == 0
    assert [kind for kind, _ in server.engine.events] == [AppEventType.ROUND_DONE]
    assert server.record(1) == ReturnCode.OK
    assert server.round_number() == 1


def test_the_selector_knows_the_best_median_of_the_rounds_after_the_initial_model() -> None:
    server = Server()
    server.record(0, 90.0, 90.0)
    assert server.selector.best_val_metric == -math.inf
    server.record(1, 21.0, 23.0)
    server.record(2, 20.0, 20.0)
    assert server.selector.best_val_metric == 22.0


def test_a_round_without_a_site_ends_the_job_with_its_name_and_who_knows_more() -> None:
    server = Server()
    server.record(0, accepted=("north",))
    (reason,) = server.engine.panics()
    assert reason.startswith("round 0: no usable update from east; site 'north' aggregates")
    assert server.engine.fired(AppEventType.ROUND_DONE) == []


@pytest.mark.parametrize("number", [0, ROUNDS, -1])
def test_a_record_of_a_round_that_is_over_or_never_comes_is_refused(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server()
    server.record(0)
    assert server.record(number) == ReturnCode.BAD_REQUEST_DATA
    assert f"record from site 'north' refused: it is of round {number}" in caplog.text
    assert len(server.metrics.rows) == 2


@pytest.mark.parametrize(
    "rows",
    [
        (("east", "val/oldest_patient", 91.0),),
        (("stranger", "val/psnr", 20.0),),
        (("east", "val/psnr", math.inf),),
        (("east", "val/psnr\n[U:east][A:record.refused]", 20.0),),
    ],
)
def test_unlisted_content_is_refused_as_a_whole_and_audited(rows: Any, trail: Path) -> None:
    server = Server()
    assert server.record(0, rows=rows) == ReturnCode.BAD_REQUEST_DATA
    assert server.metrics.rows == []
    assert server.engine.fired(AppEventType.ROUND_DONE) == server.engine.panics() == []
    (line,) = trail.read_text().splitlines()
    assert re.search(r"\]\[U:north\]\[A:record\.refused\](it speaks of )?'", line)


def test_what_is_no_record_is_refused() -> None:
    server = Server()
    ctx = with_peer(server.engine.new_context(), "north")
    reply = server.engine.handlers[TOPIC](TOPIC, Shareable({"hello": 1}), ctx)
    assert reply.get_return_code() == ReturnCode.BAD_REQUEST_DATA


def test_a_lost_record_costs_its_numbers_only(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.record(0)
    assert server.record(2) == ReturnCode.OK
    server.fire(EventType.END_WORKFLOW)
    assert "no record" not in caplog.text
    late = Server()
    late.record(0)
    late.fire(EventType.END_WORKFLOW)
    assert "no record of rounds from 1 on has arrived" in caplog.text
    assert late.round_number() == ROUNDS - 1, "the final evaluation is of the last round's model"


def test_an_aborted_swarm_has_not_finished_its_rounds() -> None:
    server = Server(aborted=True)
    server.record(0)
    server.fire(EventType.END_WORKFLOW)
    assert server.round_number() == 0


def test_a_site_that_has_answered_a_task_of_the_swarm_must_stay_connected() -> None:
    server = Server()
    for task in ("swarm_config", "validate"):
        ctx = with_peer(server.engine.new_context(), "east")
        ctx.set_prop(FLContextKey.TASK_NAME, task, private=True, sticky=False)
        server.fire(EventType.AFTER_PROCESS_SUBMISSION, ctx)
    assert [kind for kind, _ in server.engine.events] == [STAYS_CONNECTED]


def test_sites_get_more_than_nvflare_s_two_seconds_to_say_goodbye() -> None:
    server = Server()
    assert server.controller.end_workflow_timeout == 2.0
    server.fire(EventType.START_WORKFLOW)
    assert server.controller.end_workflow_timeout == 120.0
