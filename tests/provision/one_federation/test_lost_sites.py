"""Sites that crash, stay away and come back, and the privacy budget of one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from federation_jobs import island_s_ledger
from lead_console import Lead
from poc_processes import crash, start_again
from simulator_runs import export

from fedi2i.epsilon import EPSILON_TOTAL
from fedi2i.metric_files import FILE_NAME, SAMPLES, read_metrics
from lightning_modules.privacy.accountant import Release, epsilon
from provision.poc.command_line import COMPLETED
from provision.poc.federation import Federation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_site_that_crashes_and_stays_away_is_lost_when_it_is_silent_and_the_rest_goes_on(
    lead: Lead, diminished: str
) -> None:
    # The run is complete; NVFlare misses the report of a site that no longer knows of the job.
    assert lead.wait_for_end(diminished) == "FINISHED:ABNORMAL"
    run_folder = lead.download(diminished)
    assert (run_folder / "app_server" / "FL_global_model.pt").is_file()
    log = (run_folder / "log.txt").read_text()
    assert "Client island is deemed disconnected" in log
    assert "round 1: no usable update from east, island\n" in log
    assert "run complete; models are in" in log


def test_a_site_s_own_policy_noises_its_updates_in_a_job_that_asks_for_no_privacy(
    federation: Federation, lead: Lead, diminished: str
) -> None:
    """Island took part in one round, and crashed in the next one, which is spent all the same."""
    rows = read_metrics(lead.download(diminished) / FILE_NAME)
    stated = {row[0]: row[3] for row in rows if row[1:3] == (0, SAMPLES)}
    assert stated["island"] == 1 < stated["north"]
    spent = {(row[0], row[1]): row[3] for row in rows if row[2] == EPSILON_TOTAL}
    one_round = epsilon([Release(4.0, 2.0, count=2)], 1e-5)
    assert spent["island", 0] == pytest.approx(one_round, rel=1e-3)
    assert {site for site, _ in spent} == {"island", "all"}
    lines = island_s_ledger(federation)
    assert [line["state"] for line in lines] == ["begun", "released", "begun"]
    assert not any(line.get("simulated") for line in lines)


def test_a_budget_that_is_spent_over_a_job_and_a_crash_refuses_the_next_which_goes_on(
    federation: Federation, lead: Lead, diminished: str, tmp_path: Path
) -> None:
    start_again(federation, "island")
    sizes = ("--rounds", "1", "--steps", "2", "--min-sites", "1")
    job_id = lead.submit(export(tmp_path / "fedavg", "--sites", "north,island", *sizes))
    assert lead.wait_for_end(job_id) == COMPLETED
    run_folder = lead.download(job_id)
    said = (run_folder / "log.txt").read_text()
    assert "site 'island' could not do its task 'train'" in said
    assert "its privacy budget is spent, so it takes no further part" in said
    assert (run_folder / "app_server" / "FL_global_model.pt").is_file()
    assert "the budget is epsilon" in (federation.kits / "island" / job_id / "log.txt").read_text()
    crash(federation.kits / "island")
