from __future__ import annotations

import csv
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest
from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey, MessageType
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.streaming.byte_streamer import TxTask
from nvflare.fuel.f3.streaming.stream_const import (
    STREAM_ACK_TOPIC,
    STREAM_CHANNEL,
    STREAM_DATA_TOPIC,
    StreamHeaderKey,
)
from nvflare.fuel.f3.streaming.stream_types import Stream, StreamError

from app_custom.participant.allowed_messages import (
    ANY_JOB,
    KINDS,
    PERSON,
    SITE_JOB,
    SWARM_ONLY,
    TABLE_FILE,
    Envelope,
    MessageTable,
    cell_kind,
    envelope_of,
    read_table,
)

CONSOLE = "_admin_00000000-0000-4000-8000-000000000001"
AUX, COMMAND = CellChannel.AUX_COMMUNICATION, CellChannel.SERVER_COMMAND


@pytest.fixture(scope="module")
def table() -> MessageTable:
    """The table of the kits; north and south are in the jobs 'star' and 'swarm'."""
    sites = {"star": {"north", "south"}, "swarm": {"north", "south"}}
    return MessageTable(read_table(), sites.get, lambda job: job == "swarm")


def headers(channel: str, topic: str, kind: str = MessageType.REQ, **stream: str) -> dict[str, str]:
    return {
        MessageHeaderKey.CHANNEL: channel,
        MessageHeaderKey.TOPIC: topic,
        MessageHeaderKey.MSG_TYPE: kind,
        MessageHeaderKey.ORIGIN: "north.star",
        MessageHeaderKey.DESTINATION: "server.star",
        **stream,
    }


def test_word_that_a_stream_is_broken_off_passes_within_its_job_and_nothing_else_without_a_channel(
    table: MessageTable,
) -> None:
    def refusal(sender: str, receiver: str, extra: dict[str, str]) -> str:
        sent = headers(STREAM_CHANNEL, STREAM_DATA_TOPIC, **extra)
        ends = {MessageHeaderKey.ORIGIN: sender, MessageHeaderKey.DESTINATION: receiver}
        return table.refusal(envelope_of({**sent, **ends}))

    assert refusal("server.star", "north.star", BROKEN_OFF) == ""
    assert "in a swarm only" in refusal("north.star", "south.star", BROKEN_OFF)
    assert "no part in" in refusal("west.star", "server.star", BROKEN_OFF)
    assert "is not on the list" in refusal("server.star", "north.star", NO_ERROR)


class _Cell:
    """Keeps what would be sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, str]] = []

    def fire_and_forget(
        self, channel: str, topic: str, target: str, message: Message, **_: object
    ) -> None:
        self.sent.append({**headers(channel, topic), **message.headers})


class _Bytes(Stream):
    """Has nothing to send."""

    def read(self, chunk_size: int) -> bytes:
        return b""


def test_nvflare_s_own_word_of_a_broken_stream_is_read_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # NVFlare looks for its settings in all folders below
    cell = _Cell()
    task = TxTask(
        cell, 8, COMMAND, "get_task", "server.star", {}, _Bytes(size=4), False, False, False
    )
    task.stop(StreamError("the other side is gone"))
    (sent,) = cell.sent
    assert sent[MessageHeaderKey.TOPIC] == STREAM_DATA_TOPIC
    assert envelope_of(sent) == Envelope("north.star", "server.star", "", "", True)


def stream(channel: str, topic: str) -> dict[str, str]:
    inner = {StreamHeaderKey.CHANNEL: channel, StreamHeaderKey.TOPIC: topic}
    return headers(STREAM_CHANNEL, STREAM_DATA_TOPIC, **inner)


BROKEN_OFF = {StreamHeaderKey.STREAM_ID: "7", StreamHeaderKey.ERROR_MSG: "no such site"}
NO_ERROR = {StreamHeaderKey.DATA_TYPE: "error", StreamHeaderKey.ERROR_MSG: ""}


@pytest.mark.parametrize(
    ("found", "channel", "topic", "is_reply"),
    [
        (headers("task", "register"), "task", "register", False),
        (headers("task", "register", MessageType.REPLY), "task", "register", True),
        (headers("task", "register", MessageType.RETURN), "task", "register", True),
        (stream(COMMAND, "abort"), COMMAND, "abort", False),
        (stream(CellChannel.RETURN_ONLY, "server_command:get_task"), COMMAND, "get_task", True),
        (headers(STREAM_CHANNEL, STREAM_ACK_TOPIC), "", "", True),
        (headers(STREAM_CHANNEL, STREAM_DATA_TOPIC, **BROKEN_OFF), "", "", True),
        # Without an error it would be read as data, whatever kind of data it says it is.
        (headers(STREAM_CHANNEL, STREAM_DATA_TOPIC, **NO_ERROR), "", "", False),
    ],
)
def test_the_true_channel_and_topic_are_read_also_from_a_stream_s_header(
    found: dict[str, str], channel: str, topic: str, is_reply: bool
) -> None:
    expected = Envelope("north.star", "server.star", channel, topic, is_reply)
    assert envelope_of(found) == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("server", "server"),
        ("server.job", "server job"),
        ("north", "site"),
        ("north.job", "site job"),
        (CONSOLE, "person"),
        ("_admin_", "site"),
        ("north.job.rank", ""),
        (f"{CONSOLE}.job", "site job"),
        ("", ""),
        (".job", ""),
    ],
)
def test_a_cell_s_name_says_whose_it_is(name: str, kind: str) -> None:
    assert cell_kind(name) == kind


def test_every_row_names_kinds_of_cells_and_a_purpose_and_stands_once() -> None:
    rows = read_table()
    assert all({row.sender, row.receiver} <= set(KINDS) for row in rows)
    assert all(row.jobs in (ANY_JOB, SWARM_ONLY) and row.purpose for row in rows)
    ways = Counter((row.channel, row.topic, row.sender, row.receiver) for row in rows)
    assert max(ways.values()) == 1
    lines = files("app_custom.participant").joinpath(TABLE_FILE).read_text().splitlines()
    assert all(None not in row and None not in row.values() for row in csv.DictReader(lines))


def test_no_participant_sends_commands_nor_do_sites_talk_outside_a_swarm() -> None:
    commands = {
        CellChannel.CLIENT_MAIN,
        CellChannel.CLIENT_COMMAND,
        CellChannel.CLIENT_SUB_WORKER_COMMAND,
        CellChannel.SERVER_PARENT_LISTENER,
        CellChannel.MULTI_PROCESS_EXECUTOR,
        CellChannel.EDGE_REQUEST,
        "_net_manager",
    }
    rows = read_table()
    assert all(row.sender == "server" for row in rows if row.channel in commands)
    asked = {row.topic for row in rows if row.channel == COMMAND}
    assert asked == {"get_task", "submit_update"}
    assert all(row.jobs == SWARM_ONLY for row in rows if row.sender == row.receiver == SITE_JOB)
    assert all(row.receiver == "server" for row in rows if row.sender == PERSON)
    events = [(row.sender, row.receiver) for row in rows if row.topic == "fed.event"]
    assert events == [("site job", "server job")]


@pytest.mark.parametrize(
    ("sender", "receiver", "channel", "topic", "reason"),
    [
        ("north.star", "server.star", COMMAND, "get_task", ""),
        ("north.swarm", "south.swarm", AUX, "__do_task__", ""),
        ("north.star", "server.star", COMMAND, "abort", "is not on the list"),
        ("north.star", "south.star", AUX, "__do_task__", "in a swarm only"),
        ("north.star", "server.swarm", COMMAND, "get_task", "from one job to another"),
        ("west.star", "server.star", COMMAND, "get_task", "a job that 'west' has no part in"),
        ("north.swarm", "west.swarm", AUX, "__do_task__", "a job that 'west' has no part in"),
        # NVFlare answers that a job is over; the guard does not know its sites any more.
        ("north.over", "server.over", COMMAND, "get_task", ""),
        ("north.over", "south.over", AUX, "__do_task__", "in a swarm only"),
    ],
)
def test_a_request_passes_by_its_row_within_its_job(
    table: MessageTable, sender: str, receiver: str, channel: str, topic: str, reason: str
) -> None:
    said = table.refusal(Envelope(sender, receiver, channel, topic, is_reply=False))
    assert said == "" if not reason else reason in said


def test_an_answer_passes_where_its_request_may_and_a_receipt_where_anything_may(
    table: MessageTable,
) -> None:
    assert table.refusal(Envelope("server.star", "north.star", COMMAND, "get_task", True)) == ""
    assert table.refusal(Envelope("north.star", "server.star", COMMAND, "get_task", True)) != ""
    for one, other in (("server.star", "north.star"), ("north.swarm", "south.swarm")):
        assert table.refusal(Envelope(one, other, "", "", True)) == ""
        assert table.refusal(Envelope(other, one, "", "", True)) == ""
    for one, other in (("north.star", "south.star"), (CONSOLE, "north"), ("north", "south")):
        assert table.refusal(Envelope(one, other, "", "", True)) != ""


def test_a_site_s_own_cell_says_that_the_one_of_its_job_is_gone(table: MessageTable) -> None:
    """NVFlare then tells the sender of a stream or a request, in this form."""
    assert table.refusal(Envelope("north", "server.star", "", "", True)) == ""
    assert table.refusal(Envelope("north", "south.swarm", "", "", True)) == ""
    assert table.refusal(Envelope("north", "south.star", "", "", True)) != ""
    assert table.refusal(Envelope("west", "server.star", "", "", True)) != ""


def test_a_request_without_channel_is_no_receipt(table: MessageTable) -> None:
    assert table.refusal(Envelope("north.star", "server.star", "", "", is_reply=False)) != ""
