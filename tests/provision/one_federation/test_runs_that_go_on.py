"""An aborted job frees what it held; a run goes on after a killed server and a cut network."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from certificates import sign_again
from cuttable_link import CuttableLink
from federation_jobs import CUT_SECONDS, PARTICIPANTS, ROUNDS
from lead_console import Lead
from poc_processes import (
    LEAD,
    crash,
    devices,
    processes_of_job,
    round_started,
    start_again,
    wait_for,
)
from run_results import check_equal, check_learnt

from app_custom.ended_jobs import REASON
from provision.poc.command_line import COMPLETED
from provision.poc.federation import Federation, is_listening
from provision.poc.kits import PocConfig
from provision.poc.run import submit_by_console

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_an_aborted_job_leaves_no_process_and_its_gpus_to_the_job_that_waits(
    federation: Federation, lead: Lead, aborted: str, waiting: str
) -> None:
    assert lead.wait_for_end(aborted) == "FINISHED:ABORTED"
    kits = [federation.kits / name for name in PARTICIPANTS]
    wait_for(lambda: not any(processes_of_job(kit, aborted) for kit in kits), 60)
    assert devices(federation, "north", waiting) == "1,2"


def test_a_job_learns_beside_one_that_waits_and_sends_curves_and_no_pictures(
    unanswered: str, undisturbed: Path
) -> None:
    check_learnt(undisturbed, ROUNDS)


def test_a_site_that_never_answers_ends_the_job_when_the_round_s_time_is_over(
    federation: Federation, lead: Lead, unanswered: str
) -> None:
    assert lead.wait_for_end(unanswered) != COMPLETED
    log = (lead.download(unanswered) / "log.txt").read_text()
    assert "1 site(s) answered, at least 2 are needed; missing: east" in log
    reason = lead.meta(unanswered)[REASON]
    assert "1 site(s) answered, at least 2 are needed; missing: east" in reason
    assert "start the same job again to continue with the next round" in reason
    wait_for(lambda: not processes_of_job(federation.kits / "east", unanswered), 60)


@pytest.fixture
def link(config: PocConfig) -> Iterator[CuttableLink]:
    """A link to the server that can be cut."""
    link = CuttableLink(config.port)
    yield link
    link.close()


def start_east_behind(federation: Federation, link: CuttableLink, clock: Path) -> None:
    """Start east again: it reaches the server over a link, and its clock is a day ahead."""
    east = federation.kits / "east"
    crash(east)
    path = east / "startup" / "fed_client.json"
    config = json.loads(path.read_text())
    config["servers"][0]["service"]["target"] = f"localhost:{link.port}"
    path.write_text(json.dumps(config))
    sign_again(east, federation.kits.parent / "state")
    # Python runs a module of this name before anything else, in every process of the site.
    (clock / "sitecustomize.py").write_text(
        "import time\nright, right_ns = time.time, time.time_ns\n"
        "time.time = lambda: right() + 86400\n"
        "time.time_ns = lambda: right_ns() + 86400 * 10**9\n"
    )
    environment = federation.participants.environment
    before = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([str(clock), *([before] if before else [])])
    start_again(federation, "east")
    environment.pop("PYTHONPATH")
    environment.update({"PYTHONPATH": before} if before else {})


def jobs_at_server(federation: Federation) -> set[str]:
    """The ids of the jobs that the server has folders of."""
    return {path.parent.name for path in (federation.kits / "server").glob("*-*-*-*-*/log.txt")}


def test_a_run_outlives_a_killed_server_a_wrong_clock_and_a_cut_network_to_the_same_weights(
    federation: Federation,
    config: PocConfig,
    job: Path,
    undisturbed: Path,
    link: CuttableLink,
    tmp_path: Path,
) -> None:
    broken = round_started(federation, federation.user(LEAD).submit(job), 1)
    crash(federation.kits / "server")
    start_again(federation, "server")
    wait_for(lambda: is_listening(config.port), 60)
    start_east_behind(federation, link, tmp_path)
    # North gives up what the server knows nothing of.
    wait_for(lambda: not processes_of_job(federation.kits / "north", broken), 120)

    screen, before = tmp_path / "screen.txt", jobs_at_server(federation)
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(submit_by_console, federation, job, screen)
        wait_for(lambda: jobs_at_server(federation) - before, 120)
        (job_id,) = jobs_at_server(federation) - before
        round_started(federation, job_id, 2)
        link.cut()
        time.sleep(CUT_SECONDS)
        link.join()
        run_folder = result.result()

    check_learnt(run_folder, ROUNDS)
    log = (run_folder / "log.txt").read_text()
    assert f"continuing an interrupted run after 1 of {ROUNDS} finished rounds" in log
    assert "Round 0 started" not in log
    check_equal(run_folder, undisturbed)
    written = (federation.kits / "east" / job_id / "log.txt").read_text()[: len("2026-01-31")]
    ahead = datetime.date.fromisoformat(written) - datetime.datetime.now().date()
    assert ahead == datetime.timedelta(days=1)
    shown = screen.read_text()
    assert f"User Name: {LEAD}" in shown and f"> submit_job {job}" in shown
    assert f"Submitted job: {job_id}" in shown and COMPLETED in shown
