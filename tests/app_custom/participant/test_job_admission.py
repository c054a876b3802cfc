from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nvflare.apis.workspace import Workspace
from nvflare.fuel.sec.audit import AuditService
from nvflare_fakes import Engine, workspace_at

from app_custom.aggregation.model_message import EXECUTOR
from app_custom.gates.job_limits import REFUSED, JobLimits, JobRefusedError
from app_custom.participant.job_admission import JobAdmission, check_job
from app_custom.participant.site_configuration import SiteConfig
from provision.kit_texts import site_config_template

JOBS = Path(__file__).resolve().parents[3] / "jobs"
JOB = "0a1b"
LEAD = "lead@south.example.org"

Change = Callable[[dict[str, Any], dict[str, Any]], None]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Workspace]:
    """A site whose own file is as its kit brought it."""
    workspace = workspace_at(tmp_path, "north")
    (tmp_path / "local" / "fedi2i.yaml").write_text(site_config_template(["demo"]))
    AuditService.initialize(str(tmp_path / "audit.log"))
    yield workspace
    AuditService.close()
    AuditService.the_auditor = None


def deploy(
    site: Workspace, change: Change = lambda meta, executor: None, job: str = "fedavg"
) -> str:
    """Send a committed job, changed, to the site; returns the sentence for its submitter."""
    meta = json.loads((JOBS / job / "meta.json").read_text()) | {"submitter_name": LEAD}
    config = json.loads((JOBS / job / "app_site/config/config_fed_client.json").read_text())
    (executor,) = (e["executor"] for e in config["executors"] if e["executor"]["path"] == EXECUTOR)
    change(meta, executor["args"])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("config/config_fed_client.json", json.dumps(config))
    ctx = Engine(Path(site.get_root_dir()), name="north").new_context()
    return JobAdmission().deploy(site, JOB, meta, "app_site", packed.getvalue(), ctx)


def deploy_statistics(site: Workspace) -> str:
    """Send the committed job of statistics to the site."""
    job = JOBS / "statistics"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        name = "config/config_fed_client.json"
        archive.writestr(name, (job / "app_site" / name).read_text())
    ctx = Engine(Path(site.get_root_dir()), name="north").new_context()
    meta = json.loads((job / "meta.json").read_text()) | {"submitter_name": LEAD}
    return JobAdmission().deploy(site, JOB, meta, "app_site", packed.getvalue(), ctx)


def test_statistics_are_taken_only_where_the_site_s_own_file_says_so(site: Workspace) -> None:
    own = Path(site.get_site_config_dir()) / "fedi2i.yaml"
    assert "refused by 'statistics'" in deploy_statistics(site)
    assert not Path(site.get_run_dir(JOB)).exists()
    own.write_text(own.read_text() + "\nstatistics: {share: true}\n")
    assert deploy_statistics(site) == ""


def _training(**values: Any) -> Change:
    return lambda meta, args: args["settings"]["training"].update(values)


def _meta(**values: Any) -> Change:
    return lambda meta, args: meta.update(values)


def test_a_site_that_demands_noise_takes_those_jobs_alone_that_have_it(site: Workspace) -> None:
    own = Path(site.get_site_config_dir()) / "fedi2i.yaml"
    own.write_text(own.read_text() + "\npatient_privacy:\n  required: true\n")
    assert "'patient_privacy'" in deploy(site)
    assert deploy(site, lambda meta, args: args.update(patient_noise={})) == ""


def test_the_committed_job_is_taken_by_a_site_with_the_limits_of_its_kit(site: Workspace) -> None:
    assert deploy(site) == ""
    assert Path(site.get_app_dir(JOB), "config", "config_fed_client.json").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_meta(deploy_map={"app_server": ["server"], "app_site": ["north"]}), "'least_sites'"),
        (_meta(deploy_map={"app": ["server", "north", "east"]}), "runs at 2 site(s), at least 3"),
        (_meta(min_clients=1), "makes rounds of 1 site(s) (min_sites), at least 3"),
        (_training(steps=1, batch_size=1), "1 steps of 1 slices, at least 50"),
        (_training(steps=500_000), "'most_steps'"),
        (lambda meta, args: args.update(release="0.1.9"), "FedI2I 0.1.9 wrote the job"),
        (lambda meta, args: args.pop("release"), "'other_release'"),
    ],
)
def test_a_job_below_the_site_s_limits_is_refused_in_a_sentence_for_its_submitter(
    site: Workspace, change: Change, said: str
) -> None:
    reason = deploy(site, change)
    assert said in reason
    assert not Path(site.get_run_dir(JOB)).exists()
    trail = Path(site.get_root_dir(), "audit.log").read_text()
    assert f"[U:{LEAD}][A:{REFUSED}]job {JOB}: {reason}" in trail


def test_a_straggler_s_own_limit_holds_for_the_steps_that_are_left_to_it(site: Workspace) -> None:
    assert deploy(site, lambda meta, args: args.update(stragglers={"east": 0.01})) == ""
    reason = deploy(site, lambda meta, args: args.update(stragglers={"north": 0.01}))
    assert "refused by 'least_samples_per_round'" in reason


@pytest.mark.parametrize(
    "change",
    [
        _meta(min_clients="three"),
        _meta(deploy_map=["server", "north", "east", "west"]),
        _meta(deploy_map={"app": 3}),
        lambda meta, args: args.update(settings="fast"),
        lambda meta, args: args.update(patient_noise=[1]),
        lambda meta, args: args.update(stragglers={"north": 0.0}),
        lambda meta, args: args.update(stragglers=[1]),
    ],
)
def test_a_job_that_says_of_itself_what_no_site_understands_does_not_stay_deployed(
    site: Workspace, change: Change
) -> None:
    reason = deploy(site, change)
    assert "this site cannot read" in reason and "see its log" in reason
    assert not Path(site.get_run_dir(JOB)).exists()


def test_a_job_for_all_sites_there_are_is_counted_when_it_starts(site: Workspace) -> None:
    assert deploy(site, _meta(deploy_map={"app": ["@ALL"]})) == ""


def test_a_site_without_its_own_file_takes_no_job_and_tells_nobody_where_it_should_be(
    site: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "local" / "fedi2i.yaml").unlink()
    reason = deploy(site)
    assert "cannot read the job's settings or its own fedi2i.yaml" in reason
    assert str(tmp_path) not in reason


def test_a_site_may_take_jobs_of_two_sites_by_its_own_key(site: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "local" / "fedi2i.yaml"
    path.write_text(path.read_text().replace("least_sites: 3", "least_sites: 2"))
    change = _meta(deploy_map={"app": ["server", "north", "east"]}, min_clients=2)
    assert deploy(site, change) == ""


def test_a_site_may_take_encrypted_jobs_alone_by_its_own_key(
    site: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "local" / "fedi2i.yaml"
    path.write_text(path.read_text().replace("plain_updates: true", "plain_updates: false"))
    assert "refused by 'plain_updates'" in deploy(site)
    assert "refused by 'plain_updates'" in deploy(site, job="fedavg_secure")
    assert deploy(site, job="fedavg_he") == ""
    # A filter behind it may do anything.
    config = Path(site.get_app_dir(JOB), "config", "config_fed_client.json")
    content = json.loads(config.read_text())
    content["task_result_filters"][0]["filters"].append({"path": "a.later.Filter", "args": {}})
    config.write_text(json.dumps(content))
    meta = json.loads((JOBS / "fedavg_he" / "meta.json").read_text())
    limits = SiteConfig(limits=JobLimits(plain_updates=False))
    with pytest.raises(JobRefusedError, match="plain_updates"):
        check_job(limits, meta, config.parents[1], "north")


def test_a_site_may_take_jobs_alone_in_which_the_server_reads_no_single_update(
    site: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "local" / "fedi2i.yaml"
    path.write_text(path.read_text().replace("single_updates: true", "single_updates: false"))
    assert "refused by 'single_updates'" in deploy(site)
    assert "refused by 'single_updates'" in deploy(site, job="fedavg_dp")
    assert "refused by 'single_updates'" in deploy(site, job="swarm")
    assert deploy(site, job="fedavg_secure") == ""
    assert deploy(site, job="fedavg_he") == ""


def test_masks_over_fewer_sites_than_the_site_asks_for_are_refused_by_its_least_sites(
    site: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "local" / "fedi2i.yaml"
    text = path.read_text().replace("single_updates: true", "single_updates: false")
    path.write_text(text.replace("least_sites: 3", "least_sites: 4"))
    assert "rounds of 3 site(s) (min_sites), at least 4" in deploy(site, job="fedavg_secure")
    assert deploy(site, _meta(min_clients=4), job="fedavg_secure") == ""


def test_masks_with_a_filter_behind_them_or_beside_another_executor_hide_nothing(
    site: Workspace,
) -> None:
    assert deploy(site, job="fedavg_secure") == ""
    limits = SiteConfig(limits=JobLimits(single_updates=False))
    meta = json.loads((JOBS / "fedavg_secure" / "meta.json").read_text())
    path = Path(site.get_app_dir(JOB), "config", "config_fed_client.json")
    taken = json.loads(path.read_text())
    check_job(limits, meta, path.parents[1], "north")
    stranger: dict[str, Any] = {"path": "a.later.Filter", "args": {}}
    behind, beside = copy.deepcopy(taken), copy.deepcopy(taken)
    behind["task_result_filters"][0]["filters"].append(stranger)
    beside["executors"].append({"tasks": ["other"], "executor": stranger})
    for changed in (behind, beside):
        path.write_text(json.dumps(changed))
        with pytest.raises(JobRefusedError, match="single_updates"):
            check_job(limits, meta, path.parents[1], "north")
