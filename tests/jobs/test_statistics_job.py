"""The job of federated statistics: what is committed, what NVFlare builds, what is exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from job_building import SERVER_CONFIG, SITE_CONFIG, build_server, build_site, class_paths
from nvflare.app_common.executors.statistics.statistics_executor import StatisticsExecutor
from nvflare.app_common.filters.statistics_privacy_filter import StatisticsPrivacyFilter
from nvflare.app_common.workflows.statistics_controller import StatisticsController

from app_custom.participant.allowed_classes import ALLOWED_CLASSES
from app_custom.statistics.site_statistics import SiteStatistics
from jobs.__main__ import main
from jobs.commands.job_folders import JOBS_FOLDER, committed_statistics

FOLDER = JOBS_FOLDER / "statistics"


def test_the_committed_job_is_what_the_command_writes_byte_for_byte() -> None:
    found = {
        str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8")
        for path in FOLDER.rglob("*")
        if path.is_file()
    }
    assert found == committed_statistics()


def test_nvflare_builds_both_sides_under_its_component_policy(workspace: Path) -> None:
    server = build_server(FOLDER, workspace)
    (workflow,) = server.workflows
    assert isinstance(workflow.controller, StatisticsController)
    assert workflow.controller.writer_id in server.components
    site = build_site(FOLDER, workspace)
    table = site.runner_config.task_router.task_table
    assert {name: type(one) for name, one in table.items()} == {"fed_stats": StatisticsExecutor}
    assert isinstance(site.components[table["fed_stats"].generator_id], SiteStatistics)
    (cleaning,) = site.runner_config.task_result_filters["fed_stats/out"]
    assert isinstance(cleaning, StatisticsPrivacyFilter)
    assert set(cleaning.result_cleanser_ids) <= set(site.components)


def test_a_site_s_least_number_is_told_to_both_that_look_at_it() -> None:
    parts = json.loads((FOLDER / SITE_CONFIG).read_text())["components"]
    arguments = {part["id"]: part["args"] for part in parts}
    least = arguments["site_statistics"]["least_patients"]
    assert least == arguments["min_count_cleanser"]["min_count"] == 10


def test_every_class_is_on_the_allow_list() -> None:
    named = {
        path
        for name in (SERVER_CONFIG, SITE_CONFIG)
        for path in class_paths(json.loads((FOLDER / name).read_text()))
    }
    assert named <= set(ALLOWED_CLASSES)
    assert "app_custom.statistics.site_statistics.SiteStatistics" in named


def test_a_job_for_other_sites_and_data_says_so(tmp_path: Path) -> None:
    out = tmp_path / "unlike"
    command = ["statistics", "--out", str(out), "--sites", "CS,DU,HT", "--dataset", "lgg"]
    options = ["--least-patients", "20", "--bins", "4", "--min-sites", "2"]
    assert main([*command, *options, "--set", "data.preparation.spacing=null"]) == 0
    meta = json.loads((out / "meta.json").read_text())
    assert (meta["name"], meta["min_clients"]) == ("unlike", 2)
    assert meta["deploy_map"]["app_site"] == ["CS", "DU", "HT"]
    (workflow,) = json.loads((out / SERVER_CONFIG).read_text())["workflows"]
    assert workflow["args"]["min_clients"] == 2
    assert workflow["args"]["statistic_configs"]["histogram"]["*"]["bins"] == 4
    given = json.loads((out / SITE_CONFIG).read_text())["components"][0]["args"]
    assert (given["dataset"], given["least_patients"]) == ("lgg", 20)
    assert given["preparation"]["spacing"] is None


@pytest.mark.parametrize(("option", "value"), [("--bins", "64"), ("--least-patients", "1")])
def test_what_would_say_too_much_is_not_written(option: str, value: str, tmp_path: Path) -> None:
    out = tmp_path / "job"
    assert main(["statistics", "--out", str(out), option, value]) == 2
    assert not out.exists()
