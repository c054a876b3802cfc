"""Rounds that sites miss by plan: who is asked, for whom the server waits, and who owes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from nvflare.apis.controller_spec import Task
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.workflows.scatter_and_gather import ScatterAndGather
from nvflare_fakes import Engine

from app_custom.server.planned_rounds import PlannedRounds
from app_custom.server.site_watch import MISSES_ROUND, SiteWatch
from fedi2i.errors import ConfigError
from lightning_modules.training.participation import Participation

SITES = ("north", "east", "south", "west")
SEED, MISSING, LEAST, ROUNDS = 4, 0.5, 2, 30

Sent = list[tuple[Any, int]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Targets and least number of answers of what NVFlare's own controller was told to send."""
    found: Sent = []

    def broadcast(
        self: Any, task: Task, fl_ctx: FLContext, targets: Any, least: int, *_: Any
    ) -> None:
        found.append((targets, least))

    monkeypatch.setattr(ScatterAndGather, "broadcast_and_wait", broadcast)
    return found


def controller(engine: Engine) -> PlannedRounds:
    made = PlannedRounds(MISSING, SEED, min_clients=LEAST, num_rounds=ROUNDS)
    made._engine = engine
    return made


def test_a_round_is_sent_to_those_alone_who_do_not_miss_it_and_waits_for_all_of_them(
    sent: Sent,
) -> None:
    engine = Engine(sites=SITES)
    rounds = controller(engine)
    for number in range(ROUNDS):
        rounds._current_round = number
        rounds.broadcast_and_wait(Task("train", Shareable()), engine.new_context(), None, LEAST, 60)
    plan = [Participation(MISSING).present(SITES, LEAST, SEED, number) for number in range(ROUNDS)]
    assert sent == [(list(there), len(there)) for there in plan]
    assert {len(there) for there in plan} >= {2, 3}
    assert len(engine.fired(MISSES_ROUND)) == ROUNDS


def test_any_other_task_goes_out_as_the_workflow_says(sent: Sent) -> None:
    engine = Engine(sites=SITES)
    controller(engine).broadcast_and_wait(Task("other", Shareable()), engine.new_context(), None, 4)
    assert sent == [(None, 4)]


def test_a_site_that_misses_a_round_owes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, now = Engine(sites=SITES), [1000.0]
    monkeypatch.setattr("app_custom.server.site_watch.time.monotonic", lambda: now[0])
    watch = SiteWatch(grace_seconds=1.0, idle_seconds=10.0)
    watch.handle_event(EventType.START_WORKFLOW, engine.new_context())
    ctx = engine.new_context()
    ctx.set_prop(MISSES_ROUND, ["east", "west"], private=True, sticky=False)
    watch.handle_event(MISSES_ROUND, ctx)
    looks = []
    for _ in range(5):
        now[0] += 15.0
        looks.append(watch._newly_lost(engine.new_context()))
    # The two that miss it may each take a turn in vain, of 10 seconds at most, before the others.
    assert looks == [[], [], [], ["north", "south"], []]


def test_a_probability_that_is_none_is_refused_when_the_job_is_read() -> None:
    with pytest.raises(ConfigError, match=r"missing is 1\.5"):
        PlannedRounds(1.5, SEED, min_clients=1, num_rounds=1)
