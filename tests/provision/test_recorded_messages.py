"""The table of allowed messages against what jobs of every kind and a console send.

Nightly. Faster: a test of ``one_federation`` sees that nothing was refused of jobs in a
star, of faults, returns and consoles; ``test_allowed_messages.py`` reads the table itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from poc_processes import LEAD, audited, crash, free_port, round_started, start_again, wait_for
from simulator_runs import EXPERIMENT, export

from app_custom.participant.allowed_messages import read_table
from provision.poc.console import AdminConsole
from provision.poc.federation import Federation, running_federation
from provision.poc.kits import PocConfig

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.timeout(1800)]

RECORDER = Path(__file__).with_name("altered_python")
ADMIN = "project.admin@fedi2i.example.org"
SITES = ("north", "east")

NOT_PROVOKED = {
    # A server that is stopped takes its leave; NVFlare's other ways to abort a task.
    ("cellnet.channel", "bye", "server", "site"),
    ("cellnet.channel", "bye", "server", "site job"),
    ("client_command", "*", "server", "site job"),
    ("aux_communication", "__abort_task__", "server job", "site job"),
    # NVFlare chooses by size and encryption how models go from site to site.
    ("aux_communication", "cwf.share_result.swarm", "site job", "site job"),
    ("download_service__", "download_service__download", "site job", "site job"),
    ("aux_communication", "ObjectStreamer.Abort", "person", "server"),
}
"""Rows of the table that these jobs need not use."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment whose arrays are large enough to be fetched piece by piece."""
    path = tmp_path_factory.mktemp("large") / "large.yaml"
    text = EXPERIMENT.read_text().replace("channels: [8, 16]", "channels: [64, 256, 512]")
    path.write_text(text.replace("steps: 8", "steps: 1"))
    return path


@pytest.fixture(scope="module")
def record(
    tiny_cohort: Path, large: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Federation, Path]]:
    """A federation in which all of it has happened, and the folder of its records."""
    folder = tmp_path_factory.mktemp("record")
    config = PocConfig(
        out=tmp_path_factory.mktemp("recorded") / "poc",
        datasets={"tiny": tiny_cohort},
        sites=SITES,
        port=free_port(),
        torch_threads=1,
        heartbeat_timeout=30,
    )
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(RECORDER), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("MESSAGE_RECORD", str(folder))
        with running_federation(config) as federation:
            run_jobs(federation, large, folder.parent / "jobs")
            yield federation, folder


def run_jobs(federation: Federation, large: Path, out: Path) -> None:
    """Large models in all topologies, a download, an abort, a site that comes back, a shutdown."""
    sites = ("--sites", ",".join(SITES))
    lead = federation.user(LEAD)
    for strategy, rounds in (("fedavg", "1"), ("cyclic", "1"), ("swarm", "2")):
        options = (*sites, "--rounds", rounds)
        folder = out / strategy
        job_id = lead.submit(export(folder, *options, strategy=strategy, experiment=large))
        with lead.waiting(job_id, 600) as waiting:
            waiting.wait()
        lead.check_completed(job_id)
    lead.download(job_id, out / "results")
    long = export(out / "long" / "fedavg", *sites, "--rounds", "3", "--steps", "400")
    with AdminConsole(
        federation.kits / ADMIN, out / "screen.txt", federation.participants.environment
    ) as admin:
        for command in ("check_status server", "check_status client", "sys_info client north"):
            admin.type(command)
        aborted = round_started(federation, lead.submit(long), 0)
        admin.type(f"abort_job {aborted}")
        wait_for(lambda: lead.status(aborted) == "FINISHED:ABORTED", 120)
        left = round_started(federation, lead.submit(long), 0)
        crash(federation.kits / "east")
        start_again(federation, "east")
        wait_for(lambda: lead.status(left).startswith("FINISHED"), 180)
        admin.type("shutdown client east")
        wait_for(lambda: "east" in federation.participants.ended(), 60)


def test_nothing_that_server_sites_and_people_sent_was_refused(
    record: tuple[Federation, Path],
) -> None:
    """Faster: the last test of ``one_federation``, without ring and swarm."""
    federation, _ = record
    for who in ("server", *SITES):
        assert audited(federation, who, "[A:message_guard.refused]") == []


def test_the_table_holds_what_was_sent_and_little_else(record: tuple[Federation, Path]) -> None:
    """Faster: ``test_allowed_messages.py`` reads the table itself."""
    _, folder = record
    lines = {line for path in folder.glob("*.csv") for line in path.read_text().splitlines()}
    sent = {tuple(line.split(",")) for line in lines}
    table = {(row.channel, row.topic, row.sender, row.receiver) for row in read_table()}
    every_topic = {row[:1] + row[2:] for row in table if row[1] == "*"}
    # What goes from the server to a person, only the person's own program sees.
    unlisted = {
        row for row in sent - table if row[:1] + row[2:] not in every_topic and row[3] != "person"
    }
    assert unlisted == set()
    used = {row for row in table if row in sent or row[1] == "*"}
    assert table - used <= NOT_PROVOKED
