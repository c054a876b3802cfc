"""The whole comparison, as ``make demo`` runs it, on the tiny federation."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from simulator_runs import EXPERIMENT

from jobs.__main__ import main as jobs_command
from report.__main__ import main as report_command

pytestmark = pytest.mark.slow

ARMS = {
    "source",
    "fedavg",
    "centralised",
    *(f"local-{s}" for s in ("north", "east", "south", "west")),
}


def compare(data: Path, out: Path) -> int:
    """Run all arms with FedAvg as the only federated one."""
    places = ["--experiment", str(EXPERIMENT), "--data", str(data), "--out", str(out)]
    settings = ["--set", "training.rounds=3", "--set", "training.steps=40"]
    return jobs_command(["compare", *places, "--strategies", "fedavg", *settings])


def test_all_arms_are_evaluated_the_federation_has_learnt_and_a_second_call_repeats_nothing(
    tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs" / "tiny"
    assert compare(tiny_cohort, out) == 0
    results = pd.read_csv(out / "results.csv")
    assert list(results.columns) == ["arm", "site", "split", "subject", "metric", "value"]
    assert set(results["arm"]) == ARMS
    assert set(results["site"]) == {"north", "east", "south", "west", "island"}
    unseen = results[(results.site == "island") & (results.metric == "psnr")]
    psnr = unseen.groupby("arm")["value"].mean()
    assert psnr["fedavg"] > psnr["source"] + 5.0, psnr
    local = psnr[[arm for arm in psnr.index if arm.startswith("local-")]].mean()
    assert psnr["fedavg"] > local, psnr

    capsys.readouterr()
    assert compare(tiny_cohort, out) == 0
    said = capsys.readouterr().out
    assert said.count("unchanged since it finished") == 7
    assert "$ " not in said

    assert report_command([str(out)]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "computed" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
