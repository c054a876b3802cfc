"""What a participant can make the server pass on: real cells over TLS, with kits' certificates.

``one_federation`` has the same guard in a whole federation of processes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from certified_cells import CertifiedCells, speaking_as
from nvflare.fuel.f3.cellnet.cell import Cell
from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey
from nvflare.fuel.sec.audit import AuditService
from nvflare.private.defs import CellMessageHeaderKeys
from provisioned_project import Provisioned

MEMBER = "member@south.example.org"
CONSOLE = "_admin_00000000-0000-4000-8000-000000000001"
AUX, COMMAND = CellChannel.AUX_COMMUNICATION, CellChannel.SERVER_COMMAND
LISTENER = CellChannel.SERVER_PARENT_LISTENER


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The server's audit trail."""
    path = tmp_path_factory.mktemp("hostile") / "audit.log"
    before = AuditService.the_auditor
    AuditService.the_auditor = None
    AuditService.initialize(str(path))
    yield path
    AuditService.close()
    AuditService.the_auditor = before


@pytest.fixture(scope="module")
def cells(provisioned: Provisioned, trail: Path) -> Iterator[CertifiedCells]:
    """North and south are in two jobs, one of them a swarm; west is in none."""
    both = {"north", "south"}
    network = CertifiedCells(provisioned.kits, {"star": both, "swarm": both}, {"swarm"})
    for job in ("star", "swarm"):
        network.join(f"south.{job}", "south")
    network.join("south", "south")
    yield network
    network.stop()


def sender(cells: CertifiedCells, name: str) -> tuple[Cell, str]:
    """A cell and whose certificate it has."""
    who = MEMBER if name == CONSOLE else name.split(".")[0]
    return cells.join(name, who), who


@pytest.mark.parametrize(
    ("name", "channel", "topic", "target"),
    [
        (CONSOLE, CellChannel.HCI, "command", "server"),
        ("north.star", COMMAND, "get_task", "server.star"),
        ("north.star", COMMAND, "submit_update", "server.star"),
        ("north.star", AUX, "fed.event", "server.star"),
        ("north.swarm", AUX, "__do_task__", "south.swarm"),
        ("north.swarm", AUX, "fedi2i.round_record", "server.swarm"),
    ],
)
def test_what_a_job_or_a_console_needs_arrives_and_is_answered_also_if_it_is_large(
    cells: CertifiedCells, name: str, channel: str, topic: str, target: str
) -> None:
    asking, _ = sender(cells, name)
    content = np.random.default_rng(0).bytes(3_000_000)
    assert cells.ask(asking, channel, topic, target, content) == content
    assert (target, channel, topic, name) in cells.arrived


REFUSED = [
    # A job's end, the sessions of all sites and a job's outcome, for whoever may only look.
    (CONSOLE, COMMAND, "abort", "server.star"),
    (CONSOLE, LISTENER, "get_clients", "server"),
    (CONSOLE, LISTENER, "update_run_status", "server"),
    (CONSOLE, CellChannel.CLIENT_MAIN, "sys_info", "south"),
    (CONSOLE, CellChannel.EDGE_REQUEST, "report", "south.star"),
    (CONSOLE, AUX, "fed.event", "server"),
    ("north.star", COMMAND, "abort", "server.star"),
    ("north.star", COMMAND, "handle_dead_job", "server.star"),
    ("north", LISTENER, "heartbeat", "server"),
    ("north", CellChannel.CLIENT_MAIN, "shutdown", "south"),
    # Sites talk to sites in a swarm only, and only of its rounds.
    ("north.star", AUX, "__do_task__", "south.star"),
    ("north.star", AUX, "fed.event", "south.star"),
    ("north.swarm", AUX, "fed.event", "south.swarm"),
    ("north.swarm", AUX, "__end_run__", "south.swarm"),
    # Jobs are apart, and west has no part in this one.
    ("north.star", COMMAND, "get_task", "server.swarm"),
    ("west.star", COMMAND, "get_task", "server.star"),
    ("west.swarm", AUX, "__do_task__", "south.swarm"),
]


@pytest.mark.parametrize(("name", "channel", "topic", "target"), REFUSED)
def test_everything_else_is_refused_and_audited_with_the_certificate_s_name(
    cells: CertifiedCells, trail: Path, name: str, channel: str, topic: str, target: str
) -> None:
    sending, who = sender(cells, name)
    cells.send(sending, channel, topic, target)
    said = f"[U:{who}][A:message_guard.refused]'{channel}/{topic}' from {name} to {target} "
    wait_for_line(trail, said)
    assert (target, channel, topic, name) not in cells.arrived


@pytest.mark.parametrize("target", ["server", "south"])
def test_nvflare_s_network_tools_and_bundles_of_messages_are_refused(
    cells: CertifiedCells, trail: Path, target: str
) -> None:
    sending, _ = sender(cells, "north")
    for channel, topic in (("_net_manager", "stop_cell"), (CellChannel.CELLNET, "bulk")):
        cells.send(sending, channel, topic, target)
        wait_for_line(trail, f"[U:north][A:message_guard.refused]'{channel}/{topic}' from north to")


def test_a_site_that_gives_another_cell_s_name_is_refused_and_blamed_itself(
    cells: CertifiedCells, trail: Path
) -> None:
    sending, _ = sender(cells, "north.star")
    with speaking_as(sending, **{MessageHeaderKey.ORIGIN: "south.star"}):
        cells.send(sending, COMMAND, "get_task", "server.star")
        said = "'server_command/get_task' from south.star to server.star came from 'north.star'"
        wait_for_line(trail, f"[U:north][A:message_guard.refused]{said}")
    assert ("server.star", COMMAND, "get_task", "south.star") not in cells.arrived


@pytest.mark.parametrize("named", ["server", "south", MEMBER])
def test_a_site_that_uses_somebody_else_s_session_is_refused_and_blamed_itself(
    cells: CertifiedCells, trail: Path, named: str
) -> None:
    """The server's own session goes out with its messages, so sites know it."""
    sending, _ = sender(cells, "north.star")
    before = len(cells.arrived)
    with speaking_as(sending, **{CellMessageHeaderKeys.CLIENT_NAME: named}):
        cells.send(sending, COMMAND, "get_task", "server.star")
        wait_for_line(trail, f"from north.star to server.star names '{named}' as its sender")
    assert len(cells.arrived) == before


def test_a_refused_stream_is_written_down_once_a_minute(cells: CertifiedCells, trail: Path) -> None:
    sending, _ = sender(cells, "north.star")
    line = "'server_command/show_stats' from north.star to server.star"
    for _ in range(3):
        cells.send(sending, COMMAND, "show_stats", "server.star")
        wait_for_line(trail, line)
    assert trail.read_text().count(line) == 1


def wait_for_line(trail: Path, text: str) -> None:
    until = time.monotonic() + 10
    while text not in trail.read_text():
        assert time.monotonic() < until, trail.read_text()
        time.sleep(0.02)
