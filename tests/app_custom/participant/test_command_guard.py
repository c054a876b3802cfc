from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from nvflare.apis.event_type import EventType
from nvflare.fuel.f3.cellnet.core_cell import CoreCell
from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey, MessageType, ReturnCode
from nvflare.fuel.f3.cellnet.registry import Registry
from nvflare.fuel.f3.message import Message
from nvflare.fuel.sec.audit import AuditService
from nvflare.private.defs import CellMessageHeaderKeys, SysCommandTopic
from nvflare_fakes import Engine

from app_custom.participant.command_guard import (
    COMMAND_CHANNELS,
    PASSING_ON_REFUSED,
    CommandGuard,
    note_sender,
    refuse_passing_on,
)

SERVER = "server"
LEAD = "lead@north.example.org"


def message(
    channel: str, destination: str, origin: str = "north", kind: str = MessageType.REQ
) -> Message:
    headers = {
        MessageHeaderKey.CHANNEL: channel,
        MessageHeaderKey.DESTINATION: destination,
        MessageHeaderKey.ORIGIN: origin,
        MessageHeaderKey.MSG_TYPE: kind,
    }
    return Message(headers, payload=None)


@pytest.mark.parametrize("channel", sorted(COMMAND_CHANNELS))
@pytest.mark.parametrize("origin", ["north", "lead@north.example.org", SERVER, "server.job"])
def test_a_command_through_the_server_to_another_participant_is_refused(
    channel: str, origin: str
) -> None:
    for destination in ("south", "south.job", "server.job"):
        reply = refuse_passing_on(message(channel, destination, origin), SERVER)
        assert reply is not None
        assert reply.get_header(MessageHeaderKey.RETURN_CODE) == ReturnCode.UNAUTHENTICATED


@pytest.mark.parametrize(("named", "who"), [(LEAD, LEAD), (None, "_admin_1")])
def test_the_audit_trail_names_whoever_the_message_named_before_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, who: str
) -> None:
    monkeypatch.setattr(AuditService, "the_auditor", None)
    AuditService.initialize(str(tmp_path / "audit.log"))
    command = message(CellChannel.CLIENT_MAIN, "south", "_admin_1")
    command.set_header("fedi2i.sender", "somebody else")
    command.set_header(CellMessageHeaderKeys.CLIENT_NAME, named)
    note_sender(command)
    command.remove_header(CellMessageHeaderKeys.CLIENT_NAME)  # as NVFlare's check does
    refuse_passing_on(command, SERVER)
    AuditService.close()
    assert f"[U:{who}][A:{PASSING_ON_REFUSED}]" in (tmp_path / "audit.log").read_text()


@pytest.mark.parametrize("channel", sorted(COMMAND_CHANNELS))
def test_what_is_meant_for_the_server_itself_and_answers_pass(channel: str) -> None:
    assert refuse_passing_on(message(channel, SERVER), SERVER) is None
    answer = message(channel, "server.job", kind=MessageType.REPLY)
    assert refuse_passing_on(answer, SERVER) is None


@pytest.mark.parametrize(
    "channel",
    [
        CellChannel.SERVER_MAIN,
        CellChannel.AUX_COMMUNICATION,
        CellChannel.RETURN_ONLY,
        CellChannel.CELLNET,
        CellChannel.HCI,
    ],
)
def test_tasks_events_and_models_between_participants_pass(channel: str) -> None:
    assert refuse_passing_on(message(channel, "server.job"), SERVER) is None
    assert refuse_passing_on(message(channel, "south.job"), SERVER) is None


def test_the_server_s_check_of_who_sends_stays_in_action() -> None:
    """NVFlare uses the most special list of filters only, so ours must join the general one."""

    def who_sends(_: Message) -> None:
        """NVFlare's own filter."""

    core_cell = SimpleNamespace(in_filter_reg=Registry())
    core_cell.add_incoming_filter = lambda *given: CoreCell.add_incoming_filter(core_cell, *given)
    core_cell.add_incoming_filter("*", "*", who_sends)
    engine = Engine(name=SERVER)
    cell = SimpleNamespace(core_cell=core_cell, get_fqcn=lambda: SERVER)
    engine.server = SimpleNamespace(cell=cell)  # type: ignore[attr-defined]
    CommandGuard().handle_event(EventType.SYSTEM_START, engine.new_context())
    for channel in (CellChannel.CLIENT_MAIN, CellChannel.SERVER_MAIN):
        found = [filtered.cb for filtered in core_cell.in_filter_reg.find(channel, "any")]
        assert found == [note_sender, who_sends, refuse_passing_on]


def test_a_site_has_no_shell_and_its_other_commands_stay() -> None:
    engine = Engine(name="north")
    agent = SimpleNamespace(processors={SysCommandTopic.SHELL: object(), "other": object()})
    engine.admin_agent = agent  # type: ignore[attr-defined]
    guard = CommandGuard()
    guard.handle_event(EventType.START_RUN, engine.new_context())
    assert len(agent.processors) == 2
    guard.handle_event(EventType.SYSTEM_START, engine.new_context())
    assert list(agent.processors) == ["other"]
