"""Senders in a job's process, with NVFlare's own agent.

``tests/provision/test_hostile_participants.py`` has real cells.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nvflare.apis.client import Client
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FedEventHeader, FLContextKey, ReservedKey, ServerCommandKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from nvflare.fuel.f3.cellnet.core_cell import CoreCell
from nvflare.fuel.f3.cellnet.defs import (
    CellChannel,
    MessageHeaderKey,
    MessagePropKey,
    MessageType,
    ReturnCode,
)
from nvflare.fuel.f3.cellnet.registry import Registry
from nvflare.fuel.f3.endpoint import Endpoint
from nvflare.fuel.f3.message import Message
from nvflare.private.defs import CellMessageHeaderKeys, SysCommandTopic
from nvflare.private.fed.server.server_command_agent import ServerCommandAgent
from nvflare_fakes import JOB, Engine

from app_custom.participant.message_guard import REFUSED, JobGuard, MessageGuard

SITES = ("north", "south")


class Cell:
    """A cell whose network is the test: it keeps NVFlare's registries of handlers and filters."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.core_cell = SimpleNamespace(
            in_filter_reg=Registry(), req_reg=Registry(), is_secure=lambda: True
        )
        self.core_cell.add_incoming_filter = lambda *given: CoreCell.add_incoming_filter(
            self.core_cell, *given
        )

    def get_fqcn(self) -> str:
        return self._name

    def register_request_cb(self, channel: str, topic: str, cb: Any) -> None:
        self.core_cell.req_reg.set(channel, topic, SimpleNamespace(cb=cb))

    def handle(self, channel: str, message: Message) -> Message:
        reply: Message = self.core_cell.req_reg.find(channel, "*").cb(message)
        return reply


class ServerJob:
    """The server's process of a job: NVFlare's agent, and what it hands on to the runner.

    Attributes:
        answers: (authenticated name, task id) of what reached the runner.
        events: topics of the auxiliary messages that were handed on.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[str, str]] = []
        self.events: list[str] = []
        self.cell = Cell(f"server.{JOB}")
        engine = Engine(name="fedi2i", sites=SITES)
        clients = {client.token: client for client in engine.get_clients()}
        engine.server = SimpleNamespace(  # type: ignore[attr-defined]
            client_manager=SimpleNamespace(clients=clients),
            authentication_check=lambda request, state: None,
            server_state=SimpleNamespace(**dict.fromkeys(STATES, lambda ctx: {})),
        )
        engine.get_cell = lambda: self.cell  # type: ignore[method-assign]
        engine.dispatch = self._dispatch  # type: ignore[attr-defined]
        ctx = engine.new_context()
        runner = SimpleNamespace(
            process_task_request=lambda client, ctx: ("train", f"task-{client.name}", Shareable()),
            process_submission=self._take,
        )
        ctx.set_prop(FLContextKey.RUNNER, runner, private=True, sticky=True)
        ServerCommandAgent(engine, self.cell).start()
        JobGuard().handle_event(EventType.START_RUN, ctx)

    def ask_for_task(self, site: str, named: str | None = None) -> str:
        """The return code of a request for a task, from a site that calls itself something."""
        return self._command("get_task", site, said_by(named or site))

    def answer(self, site: str, task: str, named: str | None = None) -> str:
        """The return code of an answer."""
        content = said_by(named or site)
        content.add_cookie(FLContextKey.TASK_ID, task)
        # NVFlare puts the true one over it.
        content.set_header(ServerCommandKey.FL_CLIENT, Client("south", "token-south"))
        return self._command("submit_update", site, content)

    def tell(self, site: str, topic: str, content: Shareable) -> str:
        """The return code of an auxiliary message."""
        return code_of(
            self.cell.handle(CellChannel.AUX_COMMUNICATION, message(site, topic, content))
        )

    def _command(self, topic: str, site: str, content: Shareable) -> str:
        request = message(site, topic, content)
        request.set_header(CellMessageHeaderKeys.TOKEN, f"token-{site}")
        return code_of(self.cell.handle(CellChannel.SERVER_COMMAND, request))

    def _take(
        self, client: Client, name: str, task: str, result: Shareable, ctx: FLContext
    ) -> None:
        assert result.get_header(ServerCommandKey.FL_CLIENT) is client
        self.answers.append((client.name, task))

    def _dispatch(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        self.events.append(topic)
        return Shareable()


STATES = ("get_task", "submit_result", "aux_communicate")


def message(site: str, topic: str, content: Any) -> Message:
    headers = {MessageHeaderKey.TOPIC: topic, MessageHeaderKey.ORIGIN: f"{site}.{JOB}"}
    return Message(headers, content)


def said_by(name: str) -> Shareable:
    """A message's content, in which its sender gives a name."""
    context = FLContext()
    context.put(ReservedKey.IDENTITY_NAME, name, private=False, sticky=False)
    content = Shareable()
    content.set_peer_context(context)
    content.set_peer_props({ReservedKey.IDENTITY_NAME: name})
    return content


def event(name: str, event_type: str, origin: str) -> Shareable:
    content = said_by(name)
    content.set_header(FedEventHeader.EVENT_TYPE, event_type)
    content.set_header(FedEventHeader.ORIGIN, origin)
    return content


def code_of(reply: Message) -> str:
    return str(reply.get_header(MessageHeaderKey.RETURN_CODE))


@pytest.fixture
def job(trail: Path) -> ServerJob:
    return ServerJob()


def test_a_site_s_answer_to_its_task_arrives_with_the_authenticated_name(job: ServerJob) -> None:
    assert job.ask_for_task("north") == ReturnCode.OK
    assert job.answer("north", "task-north") == ReturnCode.OK
    assert job.answers == [("north", "task-north")]


@pytest.mark.parametrize(
    ("site", "task", "named", "said"),
    [
        ("north", "task-north", "south", "speaks in the name of 'south'"),
        ("north", "task-north", "west", "speaks in the name of 'west'"),
        ("north", "made-up", "north", "answers a task that was never given to it"),
        ("north", "", "north", "answers a task that was never given to it"),
        ("north", "task-south", "north", "answers a task that was never given to it"),
        ("west", "task-north", "west", "which is no site of this job"),
    ],
)
def test_an_answer_in_another_name_or_to_a_task_never_given_out_is_refused_and_its_sender_blamed(
    job: ServerJob, trail: Path, site: str, task: str, named: str, said: str
) -> None:
    for asking in SITES:
        job.ask_for_task(asking)
    assert job.answer(site, task, named) == ReturnCode.UNAUTHENTICATED
    assert job.answers == []
    (line,) = trail.read_text().splitlines()
    assert f"[U:{site}][A:{REFUSED}]'submit_update' from site '{site}'" in line and said in line


def test_a_site_asks_for_tasks_in_its_own_name_alone(job: ServerJob, trail: Path) -> None:
    assert job.ask_for_task("north", "south") == ReturnCode.UNAUTHENTICATED
    assert f"[U:north][A:{REFUSED}]" in trail.read_text()


def test_an_answer_that_comes_again_is_nvflare_s_to_drop(job: ServerJob) -> None:
    job.ask_for_task("north")
    assert [job.answer("north", "task-north") for _ in range(2)] == [ReturnCode.OK] * 2


@pytest.mark.parametrize(
    ("event_type", "origin", "code"),
    [
        ("fed.analytix_log_stats", "north", ReturnCode.OK),
        ("fed.analytix_log_stats", "south", ReturnCode.UNAUTHENTICATED),
        ("analytix_log_stats", "north", ReturnCode.UNAUTHENTICATED),
        ("_fatal_system_error", "north", ReturnCode.UNAUTHENTICATED),
        ("_global_best_model_available", "north", ReturnCode.UNAUTHENTICATED),
    ],
)
def test_a_site_raises_no_event_at_the_server_but_a_point_of_its_own_curve(
    job: ServerJob, trail: Path, event_type: str, origin: str, code: str
) -> None:
    assert job.tell("north", "fed.event", event("north", event_type, origin)) == code
    assert job.events == (["fed.event"] if code == ReturnCode.OK else [])
    assert (f"[U:north][A:{REFUSED}]" in trail.read_text()) is (code != ReturnCode.OK)


def test_what_cannot_be_read_is_refused(job: ServerJob) -> None:
    request = message("north", "fed.event", {"a": 1})
    reply = job.cell.handle(CellChannel.AUX_COMMUNICATION, request)
    assert code_of(reply) == ReturnCode.UNAUTHENTICATED and job.events == []


class SwarmSite:
    """South's process of a swarm, as another site sees it."""

    def __init__(self) -> None:
        self.cell = Cell(f"south.{JOB}")
        engine = Engine(name="south", sites=SITES)
        engine.get_cell = lambda: self.cell  # type: ignore[method-assign]
        self.cell.register_request_cb(
            CellChannel.AUX_COMMUNICATION, "*", lambda request: Message({"code": "taken"})
        )
        JobGuard().handle_event(EventType.START_RUN, engine.new_context())

    def takes(self, origin: str, topic: str, content: Shareable) -> bool:
        request = message(origin, topic, content)
        if origin == "server":
            request.set_header(MessageHeaderKey.ORIGIN, f"server.{JOB}")
        reply = self.cell.handle(CellChannel.AUX_COMMUNICATION, request)
        return reply.get_header("code") == "taken"


def task(name: str, sender: str) -> Shareable:
    content = said_by(sender)
    content.set_header(ReservedHeaderKey.TASK_NAME, name)
    return content


def test_a_site_of_a_swarm_takes_from_another_only_the_swarm_s_tasks_in_its_own_name(
    trail: Path,
) -> None:
    south = SwarmSite()
    assert south.takes("north", "__do_task__", task("swarm_learn", "north"))
    assert south.takes("north", "__do_task__", task("swarm_report_learn_result", "north"))
    assert not south.takes("north", "__do_task__", task("swarm_learn", "south"))
    for other in ("train", "validate", "submit_final_model", "swarm_config"):
        assert not south.takes("north", "__do_task__", task(other, "north"))
    assert south.takes("server", "__end_run__", said_by("fedi2i"))
    assert trail.read_text().count(f"[U:north][A:{REFUSED}]") == 5


def test_a_flood_of_refused_messages_does_not_fill_the_trail_and_hides_nobody_else_s(
    job: ServerJob, trail: Path
) -> None:
    for number in range(300):
        job.tell("north", "fed.event", event("north", f"event {number}" + "x" * 10_000, "north"))
    job.ask_for_task("south", "north")
    lines = trail.read_text().splitlines()
    assert sum("[U:north]" in line for line in lines) == 101
    assert "more is refused than is written down in this minute" in lines[-2]
    assert "[U:south]" in lines[-1] and max(map(len, lines)) < 1000


@pytest.mark.parametrize("end", ["\n", "\r\n", "\u2028", "\ud800\n"])
def test_nobody_writes_a_line_of_the_trail_in_another_s_name_by_a_line_break_in_theirs(
    job: ServerJob, trail: Path, end: str
) -> None:
    forged = f"x{end}[E:1][T:2][U:south][A:{REFUSED}]'fed.event' from site 'south'"
    job.tell("north", "fed.event", event("north", forged, "north"))
    (line,) = trail.read_text().splitlines()
    assert re.fullmatch(rf"\[E:[^\]]*\]\[T:[^\]]*\]\[U:north\]\[A:{REFUSED}\].*", line)


# The participant's own process.


def test_the_filter_stands_before_the_server_s_own_check_of_who_sends() -> None:
    """NVFlare uses the most special list of filters only, so ours must join the general one."""

    def who_sends(_: Message) -> None:
        """NVFlare's own filter."""

    cell = Cell("server")
    cell.core_cell.add_incoming_filter("*", "*", who_sends)
    engine = Engine(name="server")
    engine.get_cell = lambda: cell  # type: ignore[method-assign]
    MessageGuard().handle_event(EventType.SYSTEM_START, engine.new_context())
    for channel in (CellChannel.CLIENT_MAIN, CellChannel.SERVER_MAIN):
        ours, theirs = cell.core_cell.in_filter_reg.find(channel, "any")
        assert ours.cb.__name__ == "refuse" and theirs.cb is who_sends


def test_the_server_refuses_what_comes_without_a_certificate_but_from_its_own_processes(
    trail: Path,
) -> None:
    cell = Cell("server")
    engine = Engine(name="server")
    engine.get_cell = lambda: cell  # type: ignore[method-assign]
    MessageGuard().handle_event(EventType.SYSTEM_START, engine.new_context())
    register = {MessageHeaderKey.CHANNEL: "task", MessageHeaderKey.TOPIC: "register"}
    assert not arriving(cell, "north", "north", "server", **register)
    assert arriving(cell, "north", "north", "server", certificate="north", **register)
    assert not arriving(cell, "north", "north", "server", certificate="south", **register)
    assert arriving(cell, "server.job", "server.job", "server")
    assert "came without a certificate" in trail.read_text()


def arriving(
    cell: Cell,
    neighbour: str,
    origin: str,
    receiver: str,
    certificate: str | None = None,
    **more: str,
) -> bool:
    """Whether a request passes the cell's filters."""
    headers = {
        MessageHeaderKey.CHANNEL: CellChannel.CLIENT_MAIN,
        MessageHeaderKey.TOPIC: "any",
        MessageHeaderKey.MSG_TYPE: MessageType.REQ,
        MessageHeaderKey.ORIGIN: origin,
        MessageHeaderKey.DESTINATION: receiver,
        **more,
    }
    request = Message(headers)
    request.set_prop(MessagePropKey.ENDPOINT, Endpoint(neighbour))
    if certificate:
        request.set_prop(MessagePropKey.COMMON_NAME, certificate)
        request.set_header(CellMessageHeaderKeys.CLIENT_NAME, neighbour)
    filters = cell.core_cell.in_filter_reg.find("any", "any")
    passes = all(found.cb(request) is None for found in filters)
    assert MessageHeaderKey.CONN_URL not in request.headers
    return passes


@pytest.fixture
def north(trail: Path) -> Cell:
    cell = Cell("north")
    engine = Engine(name="north")
    engine.get_cell = lambda: cell  # type: ignore[method-assign]
    MessageGuard().handle_event(EventType.SYSTEM_START, engine.new_context())
    return cell


def test_a_site_takes_commands_from_the_server_and_from_its_own_processes_alone(
    north: Cell, trail: Path
) -> None:
    assert arriving(north, "server", "server", "north")
    assert arriving(north, "north.job", "north.job", "north")
    assert not arriving(north, "server", "south", "north")
    assert not arriving(north, "server", "south.job", "north.job")
    assert trail.read_text().count(f"[U:south][A:{REFUSED}]") == 2


def test_a_connection_past_the_server_is_neither_used_nor_opened(north: Cell, trail: Path) -> None:
    assert not arriving(north, "south", "server", "north")
    assert "[U:south]" in trail.read_text()
    url = {MessageHeaderKey.CONN_URL: "http://elsewhere.example.org"}
    assert arriving(north, "server", "server", "north", **url)


def test_a_site_has_no_shell_and_its_other_commands_stay() -> None:
    engine = Engine(name="north")
    agent = SimpleNamespace(processors={SysCommandTopic.SHELL: object(), "other": object()})
    engine.admin_agent = agent  # type: ignore[attr-defined]
    engine.get_cell = lambda: Cell("north")  # type: ignore[method-assign]
    guard = MessageGuard()
    guard.handle_event(EventType.START_RUN, engine.new_context())
    assert len(agent.processors) == 2
    guard.handle_event(EventType.SYSTEM_START, engine.new_context())
    assert list(agent.processors) == ["other"]


def test_a_participant_whose_messages_cannot_be_checked_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """NVFlare logs an error in a component and goes on."""
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    engine = Engine(name="north")
    engine.get_cell = lambda: None  # type: ignore[method-assign,assign,return-value]
    with pytest.raises(AttributeError):
        MessageGuard().handle_event(EventType.SYSTEM_START, engine.new_context())
    assert ended == [1] and "nothing is started" in caplog.text


def test_a_job_whose_senders_cannot_be_checked_ends() -> None:
    engine = Engine(name="server")
    with pytest.raises(AttributeError):
        JobGuard().handle_event(EventType.START_RUN, engine.new_context())
    assert any("messages cannot be checked" in reason for reason in engine.panics())
