from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.app_event_type import AppEventType
from nvflare_fakes import JOB, Engine, answering, with_peer

from app_custom.ended_jobs import REASON_FILE
from app_custom.nvflare_context import run_folder
from app_custom.server import site_watch
from app_custom.server.site_watch import STAYS_CONNECTED, SiteWatch

GRACE = 5.0


class Server:
    """A server whose clock and whose sites' connections the test decides."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = Engine()
        self.watch = SiteWatch(GRACE)
        self.now = 1000.0
        self.told: list[str] = []
        self.runner: Any = SimpleNamespace(
            current_wf="training", handle_dead_job=lambda site, fl_ctx: self.told.append(site)
        )
        ctx = self.engine.new_context()
        ctx.set_prop(FLContextKey.RUNNER, self.runner, private=True, sticky=True)
        monkeypatch.setattr(site_watch.time, "monotonic", lambda: self.now)

    def connect(self, *sites: str) -> None:
        self.engine.connected = {f"{site}.{JOB}" for site in sites}

    def begin(self, site: str, event: str = AppEventType.BEFORE_TRAIN_TASK) -> None:
        self.watch.handle_event(event, with_peer(self.engine.new_context(), site))

    def answer(self, site: str, answer: Shareable | None = None) -> None:
        ctx = with_peer(self.engine.new_context(), site)
        result = answer or make_reply(ReturnCode.OK)
        ctx.set_prop(FLContextKey.TASK_RESULT, result, private=True, sticky=False)
        ctx.set_prop(FLContextKey.TASK_NAME, "train", private=True, sticky=False)
        self.watch.handle_event(EventType.BEFORE_PROCESS_SUBMISSION, ctx)

    def answer_as(self, site: str, calls_itself: str) -> None:
        ctx = answering(self.engine.new_context(), make_reply(ReturnCode.OK), site, calls_itself)
        ctx.set_prop(FLContextKey.TASK_NAME, "train", private=True, sticky=False)
        self.watch.handle_event(EventType.BEFORE_PROCESS_SUBMISSION, ctx)

    def fire(self, event: str) -> None:
        self.watch.handle_event(event, self.engine.new_context())

    def tell(self) -> list[str]:
        """Sites that NVFlare's workflow is told of now."""
        self.told.clear()
        self.watch._tell_workflow(self.engine.new_context())
        return list(self.told)

    def look(self, after: float = 0.0) -> list[str]:
        self.now += after
        return self.watch._newly_lost(self.engine.new_context())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


@pytest.mark.parametrize(
    "event", [AppEventType.BEFORE_TRAIN_TASK, AppEventType.SEND_MODEL_FOR_VALIDATION]
)
def test_a_site_without_connection_is_reported_once_after_the_grace(
    server: Server, event: str
) -> None:
    server.begin("east", event)
    assert server.look() == []
    assert server.look(after=GRACE) == []
    assert server.look(after=0.1) == ["east"]
    assert server.look(after=100 * GRACE) == []


def test_a_connected_site_may_take_as_long_as_it_needs(server: Server) -> None:
    server.connect("east")
    server.begin("east")
    assert [server.look(after=1000.0) for _ in range(3)] == [[], [], []]


def test_a_connection_that_comes_back_in_time_starts_the_grace_anew(server: Server) -> None:
    server.begin("east")
    assert server.look() == []
    server.connect("east")
    assert server.look(after=GRACE - 1) == []
    server.connect()
    assert server.look(after=2.0) == []
    assert server.look(after=GRACE) == []
    assert server.look(after=0.1) == ["east"]


def test_a_site_that_has_answered_may_go(server: Server) -> None:
    server.begin("east")
    server.look()
    server.answer("east")
    assert server.look(after=2 * GRACE) == []


def test_a_site_without_a_task_is_not_watched(server: Server) -> None:
    assert server.look() == []
    assert server.look(after=2 * GRACE) == []


@pytest.mark.parametrize("event", [AppEventType.ROUND_DONE, EventType.END_WORKFLOW])
def test_when_the_round_is_over_nobody_owes_an_answer(server: Server, event: str) -> None:
    server.begin("east")
    server.look()
    server.fire(event)
    assert server.look(after=2 * GRACE) == []


def test_only_the_sites_that_are_gone_are_reported_in_the_order_of_names(server: Server) -> None:
    server.connect("south")
    for site in ("west", "south", "east"):
        server.begin(site)
    server.look()
    assert server.look(after=2 * GRACE) == ["east", "west"]


def test_a_reported_site_gets_its_grace_again_with_its_next_task(server: Server) -> None:
    server.begin("east")
    server.look()
    assert server.look(after=2 * GRACE) == ["east"]
    server.begin("east")
    assert server.look(after=1.0) == []
    assert server.look(after=GRACE + 0.1) == ["east"]


def lose(server: Server, site: str) -> None:
    server.begin(site)
    server.look()
    assert server.look(after=2 * GRACE) == [site]


def test_the_workflow_is_told_of_a_lost_site_once(server: Server) -> None:
    lose(server, "east")
    assert server.tell() == ["east"]
    assert server.tell() == []


def test_the_next_workflow_is_told_again_because_it_knows_of_no_lost_site(server: Server) -> None:
    lose(server, "east")
    server.tell()
    server.fire(EventType.END_WORKFLOW)
    server.fire(EventType.START_WORKFLOW)
    assert server.tell() == ["east"]
    assert server.tell() == []


def test_a_lost_site_that_answers_after_all_is_not_reported_to_the_next_workflow(
    server: Server,
) -> None:
    lose(server, "east")
    server.tell()
    server.answer("east")
    server.fire(EventType.START_WORKFLOW)
    assert server.tell() == []


def test_between_two_workflows_the_news_waits_for_the_next_one(server: Server) -> None:
    lose(server, "east")
    server.runner.current_wf = None
    assert server.tell() == []
    server.runner.current_wf = "evaluation"
    assert server.tell() == ["east"]


def test_a_failed_task_is_logged_with_site_task_and_code(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.begin("east")
    server.answer("east", make_reply(ReturnCode.EXECUTION_EXCEPTION))
    assert "site 'east' could not do its task 'train' (EXECUTION_EXCEPTION)" in caplog.text
    assert "the reason is in that site's log" in caplog.text


def test_a_good_answer_is_no_news(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.begin("east")
    server.answer("east")
    assert caplog.text == ""


def test_the_watch_tells_nvflare_s_runner_and_stops_with_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(site_watch, "_LOOK_EVERY_SECONDS", 0.01)
    told: list[str] = []
    heard = threading.Event()

    def handle_dead_job(site: str, fl_ctx: FLContext) -> None:
        told.append(site)
        heard.set()

    engine = Engine()
    runner: Any = SimpleNamespace(current_wf="training", handle_dead_job=handle_dead_job)
    ctx = engine.new_context()
    ctx.set_prop(FLContextKey.RUNNER, runner, private=True, sticky=True)
    watch = SiteWatch(grace_seconds=0.0)
    before = set(threading.enumerate())
    watch.handle_event(EventType.START_RUN, ctx)
    (thread,) = set(threading.enumerate()) - before
    watch.handle_event(AppEventType.BEFORE_TRAIN_TASK, with_peer(engine.new_context(), "east"))
    assert heard.wait(5.0)
    watch.handle_event(EventType.END_RUN, engine.new_context())
    thread.join(5.0)
    assert not thread.is_alive()
    assert told == ["east"]
    assert "site 'east' is lost" in caplog.text


IDLE = 60.0


def test_a_site_that_dies_before_it_fetches_its_task_is_reported_when_nobody_works(
    server: Server,
) -> None:
    server.engine._sites = (
        "east",
        "north",
    )
    server.fire(AppEventType.ROUND_STARTED)
    server.connect("north")
    server.begin("north")
    server.look(after=10 * IDLE)
    server.answer("north")
    assert server.look(after=IDLE) == []
    assert server.look(after=1.0) == []
    assert server.look(after=GRACE + 0.1) == ["east"]
    assert server.look(after=10 * IDLE) == []


def test_a_site_that_waits_for_its_turn_is_not_reported_while_others_work(server: Server) -> None:
    server.engine._sites = (
        "east",
        "north",
    )
    server.fire(AppEventType.ROUND_STARTED)
    server.connect("north")
    server.begin("north")
    assert [server.look(after=IDLE) for _ in range(5)] == [[]] * 5


def test_an_idle_site_with_a_connection_is_not_reported(server: Server) -> None:
    server.engine._sites = ("east",)
    server.fire(AppEventType.ROUND_STARTED)
    server.connect("east")
    assert [server.look(after=IDLE) for _ in range(5)] == [[]] * 5


def stay(server: Server, site: str) -> None:
    server.watch.handle_event(STAYS_CONNECTED, with_peer(server.engine.new_context(), site))


def test_a_site_of_a_swarm_that_loses_its_connection_is_reported_although_it_owes_nothing(
    server: Server,
) -> None:
    server.connect("east", "north")
    stay(server, "east")
    stay(server, "north")
    server.answer("east")
    server.fire(AppEventType.ROUND_DONE)
    assert server.look(after=10 * IDLE) == []
    server.connect("north")
    assert server.look() == []
    assert server.look(after=GRACE + 0.1) == ["east"]
    assert server.look(after=10 * IDLE) == []


def test_when_the_swarm_has_ended_its_sites_may_go(server: Server) -> None:
    stay(server, "east")
    server.fire(EventType.END_WORKFLOW)
    server.look()
    assert server.look(after=2 * GRACE) == []


@pytest.mark.parametrize(("secure", "lost"), [(True, []), (False, ["east"])])
def test_only_where_connections_are_visible_is_any_site_lost_for_want_of_one(
    server: Server, monkeypatch: pytest.MonkeyPatch, secure: bool, lost: list[str]
) -> None:
    """On provisioned sites the job's process at the server sees no connection of any site."""
    looks: list[Any] = []
    monkeypatch.setattr(
        site_watch.threading,
        "Thread",
        lambda target, args, daemon: SimpleNamespace(start=lambda: looks.append(args[0])),
    )
    ctx = server.engine.new_context()
    ctx.set_prop(FLContextKey.SECURE_MODE, secure, private=True, sticky=True)
    server.watch.handle_event(EventType.START_RUN, ctx)
    server.begin("east")
    for seconds in (0.0, 2 * GRACE):
        server.now += seconds
        server.watch._look_once(looks[0])
    assert server.told == lost


def reported(server: Server, event: str, key: str, site: str) -> None:
    """NVFlare's workflow says what it knows of a site."""
    ctx = server.engine.new_context()
    ctx.set_prop(key, site, private=True, sticky=False)
    server.watch.handle_event(event, ctx)


def test_the_next_workflow_is_told_of_sites_that_the_one_before_had_lost(server: Server) -> None:
    reported(server, EventType.CLIENT_DISCONNECTED, FLContextKey.DISCONNECTED_CLIENT_NAME, "east")
    assert server.tell() == []  # it is the current one that said so
    server.fire(EventType.START_WORKFLOW)
    assert server.tell() == ["east"]
    assert server.tell() == []


def test_a_site_that_has_come_back_is_not_reported_to_the_next_workflow(server: Server) -> None:
    reported(server, EventType.CLIENT_DISCONNECTED, FLContextKey.DISCONNECTED_CLIENT_NAME, "east")
    reported(server, EventType.CLIENT_RECONNECTED, FLContextKey.RECONNECTED_CLIENT_NAME, "east")
    server.fire(EventType.START_WORKFLOW)
    assert server.tell() == []


def test_a_site_that_answers_in_another_s_name_does_not_count_as_the_other(server: Server) -> None:
    server.connect()
    server.begin("east")
    server.answer_as("north", "east")
    assert server.look() == []
    assert server.look(after=GRACE + 0.1) == ["east"]


def test_the_fault_that_ends_a_job_is_told_with_the_sites_that_failed_or_are_lost(
    server: Server,
) -> None:
    """A site that has done its task since, or whose connection is back, is no part of it."""
    for site in ("east", "north"):
        server.answer(site, make_reply(ReturnCode.EXECUTION_EXCEPTION))
    server.answer("north")
    for event, key, site in (
        (EventType.CLIENT_DISCONNECTED, FLContextKey.DISCONNECTED_CLIENT_NAME, "west"),
        (EventType.CLIENT_DISCONNECTED, FLContextKey.DISCONNECTED_CLIENT_NAME, "south"),
        (EventType.CLIENT_RECONNECTED, FLContextKey.RECONNECTED_CLIENT_NAME, "south"),
    ):
        ctx = server.engine.new_context()
        ctx.set_prop(key, site)
        server.watch.handle_event(event, ctx)
    ctx = server.engine.new_context()
    ctx.set_prop(FLContextKey.EVENT_DATA, "too few answers")
    server.watch.handle_event(EventType.FATAL_SYSTEM_ERROR, ctx)
    told = (run_folder(ctx) / REASON_FILE).read_text().splitlines()
    assert told == [
        "site 'east' could not do its task 'train' (EXECUTION_EXCEPTION); the reason is in that "
        "site's log",
        "site 'west' is lost",
        "too few answers",
    ]
