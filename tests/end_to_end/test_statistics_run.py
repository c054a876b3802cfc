"""The committed job of statistics in NVFlare's simulator, on scans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from simulator_runs import prepared_workspace, simulate
from tiny_cohort import write_tiny_cohort

from jobs.__main__ import main as jobs_command
from partitions.__main__ import main as data_command

pytestmark = [pytest.mark.nightly, pytest.mark.slow]


def test_the_server_writes_what_the_report_is_made_of(tmp_path: Path) -> None:
    """tests/app_custom/statistics proves the numbers, with NVFlare's parts in one process."""
    data = write_tiny_cohort(tmp_path / "data", ("north", "south", "west"))
    workspace = prepared_workspace(tmp_path / "workspace", data)
    job = tmp_path / "statistics"
    command = ["statistics", "--out", str(job), "--sites", "north,south,west", "--bins", "2"]
    sizes = ["--set", "data.preparation.size=[32,32]", "--set", "data.preparation.spacing=null"]
    assert jobs_command([*command, *sizes, "--dataset", "tiny", "--least-patients", "4"]) == 0
    run = simulate(job, workspace)
    assert run.exit_code == 0, run.output[-3000:]
    found = run.run_folder / "statistics.json"
    page, record = tmp_path / "page.html", tmp_path / "report.json"
    command = ["heterogeneity", "--federated", str(found), "--out", str(page)]
    assert data_command([*command, "--json", str(record)]) == 0
    content = json.loads(record.read_text())
    assert [site["patients"] for site in content["sites"]] == [4, 4, 4]
    assert [site["age"]["mean"] for site in content["sites"]] == [41.5] * 3
    together = tmp_path / "together.json"
    command = ["heterogeneity", str(data), "--json", str(together)]
    assert data_command([*command, "--set", "size=[32,32]", "--set", "spacing=null"]) == 0
    here = json.loads(together.read_text())["sites"]
    for one, other in zip(content["sites"], here, strict=True):
        halves = [sum(other["images"]["source"]["histogram"][n : n + 32]) for n in (0, 32)]
        assert one["images"]["source"]["histogram"] == pytest.approx(halves, abs=1e-3)
