"""Which jobs are refused, and that what a failing job says of patients stays at its site."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from federation_jobs import TWO_SITES
from lead_console import Lead
from planted_patients import LOSER, found_in, identifiers
from poc_processes import LEAD, audited
from simulator_runs import export

from provision.poc.command_line import JobError
from provision.poc.federation import Federation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


STRANGER = "nvflare.app_common.logging.job_log_streamer.JobLogStreamer"
CONFIGS = {
    "server": "app_server/config/config_fed_server.json",
    "north": "app_site/config/config_fed_client.json",
}
REFUSED_BY = tuple(CONFIGS)


def add_class(job: Path, who: str) -> None:
    """Name a class that no participant's list holds."""
    path = job / CONFIGS[who]
    config = json.loads(path.read_text())
    config["components"].append({"id": "stranger", "path": STRANGER, "args": {}})
    path.write_text(json.dumps(config))


def add_code(job: Path, who: str) -> None:
    """Bring a module that the participant would import."""
    code = job / CONFIGS[who].split("/")[0] / "custom" / "innocent.py"
    code.parent.mkdir()
    code.write_text("print('x')\n")


@pytest.fixture(scope="module")
def refusals(lead: Lead, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """What the lead reads of jobs that were refused when they were sent out, all at once."""
    jobs = {}
    for fault in (add_class, add_code):
        for who in REFUSED_BY:
            folder = tmp_path_factory.mktemp("refused") / "fedavg"
            job = export(folder, *TWO_SITES, "--rounds", "1", "--steps", "2")
            fault(job, who)
            jobs[fault.__name__, who] = lead.submit(job)
    for job_id in jobs.values():
        assert lead.wait_for_end(job_id, 60) == "FINISHED:FAILED_TO_RUN"
    return {key: "; ".join(lead.meta(job_id)["job_deploy_detail"]) for key, job_id in jobs.items()}


@pytest.mark.parametrize("who", REFUSED_BY)
def test_a_class_off_the_allow_list_is_refused_by_name_and_audited(
    federation: Federation, refusals: dict[tuple[str, str], str], who: str
) -> None:
    reason = refusals["add_class", who]
    assert f"{who}: " in reason
    assert f"not on this participant's class_allow_list: {STRANGER}" in reason
    assert audited(federation, who, STRANGER)


@pytest.mark.parametrize("who", REFUSED_BY)
def test_a_job_that_carries_code_is_refused_and_audited_and_no_site_keeps_the_code(
    federation: Federation, refusals: dict[tuple[str, str], str], who: str
) -> None:
    assert "BYOC not permitted" in refusals["add_code", who]
    assert audited(federation, who, f"[U:{LEAD}][A:authorization.refused]byoc")
    for site in ("north", "east"):
        assert not list((federation.kits / site).rglob("innocent.py"))


def test_a_site_whose_privacy_policy_is_lost_while_it_runs_takes_no_job(
    federation: Federation, lead: Lead, small_job: Path
) -> None:
    policy = federation.kits / "north" / "local" / "privacy.json"
    content = policy.read_bytes()
    policy.unlink()
    try:
        job_id = lead.submit(small_job)
        assert lead.wait_for_end(job_id, 60) == "FINISHED:FAILED_TO_RUN"
    finally:
        policy.write_bytes(content)
    with pytest.raises(JobError, match=r"this site's privacy\.json would limit nothing"):
        federation.user(LEAD).check_completed(job_id)


def test_a_failure_that_names_patients_and_files_is_read_at_the_site_alone(
    federation: Federation, lead: Lead, lost_scans: str
) -> None:
    result = lead.download(lost_scans)
    assert f"site '{LOSER}' could not do its task" in (result / "log.txt").read_text()
    name, _, _, ward = identifiers(LOSER)
    said = (federation.kits / LOSER / lost_scans / "log.txt").read_text()
    assert f"{ward}/{name}_0" in said
    assert found_in(result, federation.kits / "server" / lost_scans, site=LOSER) == set()
