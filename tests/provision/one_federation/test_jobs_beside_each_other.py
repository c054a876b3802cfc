"""Jobs beside each other: one stands still all the time, as a process of it does not go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from federation_jobs import claiming, refused_of, sends_directly
from lead_console import Lead
from poc_processes import MEMBER, devices, processes_of_job, server_log, wait_for

from provision.poc.command_line import COMPLETED
from provision.poc.federation import Federation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_site_that_joins_later_takes_part_and_one_that_crashed_and_is_back_is_named(
    federation: Federation, diminished: str
) -> None:
    log = server_log(federation, diminished)
    assert "Client east is deemed disconnected" in log
    assert "round 0: no usable update from east\n" in log


def test_a_job_gets_the_gpus_that_it_asks_for_and_another_waits_until_they_are_free(
    federation: Federation, lead: Lead, stalled: str, waiting: str
) -> None:
    assert devices(federation, "north", stalled) == "1"
    assert devices(federation, "east", stalled) == ""
    why = "waiting for 2 GPU(s): 1 of 2 are free"
    wait_for(lambda: why in str(lead.meta(waiting).get("schedule_history")), 60)
    assert lead.status(waiting) == "SUBMITTED"


def test_a_member_neither_ends_a_job_nor_reads_sessions_nor_changes_an_outcome(
    federation: Federation, lead: Lead, stalled: str
) -> None:
    """NVFlare does all of it for any authenticated participant."""
    listener = "server_parent_listener"
    answers = sends_directly(
        federation,
        (listener, "get_clients", "server", {"job": stalled}),
        (listener, "update_run_status", "server", {"job": stalled, "execution_error": True}),
        ("server_command", "abort", f"server.{stalled}", {}),  # travels as a stream
    )
    assert not any(answer.startswith("ANSWER ok") for answer in answers)
    for topic in ("get_clients", "update_run_status", "abort"):
        assert [line for line in refused_of(federation, MEMBER) if f"/{topic}'" in line]
    assert lead.status(stalled) == "RUNNING"


def test_a_claim_that_no_site_can_ever_meet_is_not_started_and_says_why(
    federation: Federation, lead: Lead, tmp_path: Path
) -> None:
    too_many = lead.submit(claiming(tmp_path, 3))
    why = "north: the job asks for 3 GPU(s), this site has 2"
    wait_for(lambda: why in str(lead.meta(too_many).get("schedule_history")), 60)
    assert processes_of_job(federation.kits / "north", too_many) == []
    lead.type(f"abort_job {too_many}")


@pytest.fixture
def strict_north(federation: Federation) -> Iterator[Path]:
    """North keeps discriminators; the job of every test is told otherwise."""
    path = federation.kits / "north" / "local" / "privacy.json"
    before = path.read_text()
    path.write_text(before.replace('"discriminator",', ""))
    yield federation.kits / "north"
    path.write_text(before)


def test_what_a_site_keeps_stays_there_although_the_job_asks_and_filters_nothing(
    federation: Federation, lead: Lead, small_job: Path, strict_north: Path, stalled: str
) -> None:
    config = small_job / "app_site" / "config" / "config_fed_client.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "task_result_filters": []}))
    job_id = lead.submit(small_job)
    assert lead.wait_for_end(job_id) != COMPLETED
    log = (strict_north / job_id / "log.txt").read_text()
    assert "parameter 'discriminator." in log and "is outside the sharing scope" in log
    result = lead.download(job_id)
    said = (result / "log.txt").read_text()
    assert "site 'north' could not do its task 'train'" in said
    assert not (result / "app_server" / "FL_global_model.pt").exists()
    assert lead.status(stalled) == "RUNNING"  # a job that fails disturbs no other
