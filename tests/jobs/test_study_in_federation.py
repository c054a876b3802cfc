"""A study in a running federation: which jobs it submits, how it goes on, what it collects."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from statistics import fmean, stdev

import pytest
from simulator_runs import SITES, TWO_SITES

from app_custom.gates.study_numbers import NUMBERS
from fedi2i.cli.program import main
from fedi2i.errors import ConfigError, DataError
from fedi2i.metric_files import MetricRow, write_metrics
from jobs.running.studies.in_federation import (
    FEDERATED_FILE,
    LOCAL_ARM,
    SUMMARIES_FILE,
    run_in_federation,
)
from jobs.running.studies.study import read_study
from report.numbers.over_seeds.federated import ALL, differences, site_tables
from report.run.federated import read_federated

STUDY = """
title: Two <strategies>
experiment: experiment.yaml
strategies: [fedavg, fedprox]
seeds: [5, 6, 7]
primary: {metric: ssim, patients: federated}
margin: 0.01
"""
PATIENTS = {"south": 12, "east": 7}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A study's file, and the experiment beside it."""
    (tmp_path / "experiment.yaml").write_text(TWO_SITES.read_text(encoding="utf-8"))
    path = tmp_path / "my study.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path


def ssim(arm: str, seed: int, site: str) -> float:
    """Made by hand: FedAvg is 0.03 above FedProx in seed 5, 0.01 in seed 6, 0.02 in seed 7."""
    ahead = {5: 0.03, 6: 0.01, 7: 0.02}[seed] if arm == "fedavg" else 0.0
    return 0.5 + ahead + (0.1 if site == "east" else 0.0) + 0.001 * seed


class FakeFederation:
    """A running federation that has trained already: sites tell what is made by hand.

    Args:
        silent: a site that shares nothing of its test patients.
        failing: a job that ends with an error the first time.
    """

    def __init__(self, silent: str = "", failing: str = "") -> None:
        self.submitted: list[str] = []
        self.jobs: dict[str, dict[str, object]] = {}
        self._silent = silent
        self._failing = failing
        self.unreachable = False

    def submit(self, job: Path) -> str:
        text = (job / "app_site" / "config" / "config_fed_client.json").read_text()
        arguments = json.loads(text)["executors"][0]["executor"]["args"]
        self.submitted.append(job.name)
        job_id = f"id-{len(self.submitted)}"
        self.jobs[job_id] = {"name": job.name, **arguments}
        return job_id

    def status(self, job_id: str) -> str:
        if self.unreachable:
            raise DataError("the server cannot be reached")
        return "FINISHED:EXECUTION_EXCEPTION" if self._fails(job_id) else "FINISHED:COMPLETED"

    def check_completed(self, job_id: str) -> None:
        if self._fails(job_id):
            self._failing = ""
            raise DataError(f"job {job_id} ended as FINISHED:EXECUTION_EXCEPTION")

    def download(self, job_id: str, out: Path) -> Path:
        write_metrics(out / "workspace" / "metrics.csv", self._recorded(self.jobs[job_id]))
        return out / "workspace"

    def _fails(self, job_id: str) -> bool:
        return self.jobs[job_id]["name"] == self._failing

    def _recorded(self, job: dict[str, object]) -> Iterator[MetricRow]:
        task, settings = job["study"], job["settings"]
        assert isinstance(task, dict) and isinstance(settings, dict)
        seed, arm = settings["seed"], task["arm"]
        yield "all", 3, "val/psnr", 20.0
        for site in [site for site in SITES if site != self._silent]:
            yield site, 3, "val/ssim", 0.99
            models = {"test": ssim(arm, seed, site)} | (
                {"test_local": 0.4} if task["local"] else {}
            )
            for model, mean in models.items():
                values = dict(zip(NUMBERS, (PATIENTS[site], mean, 0.05), strict=True))
                for name, value in values.items():
                    yield site, 3, f"{model}/ssim/{name}", float(value)


def test_every_strategy_and_seed_is_one_job_and_the_reference_trains_the_sites_own_arm(
    file: Path, tmp_path: Path
) -> None:
    federation = FakeFederation()
    run_in_federation(read_study(file), file.stem, federation, tmp_path / "out")
    expected = [f"{arm}-seed-{seed}" for seed in (5, 6, 7) for arm in ("fedavg", "fedprox")]
    assert federation.submitted == expected
    tasks = [job["study"] for job in federation.jobs.values()]
    assert [task["local"] for task in tasks] == [True, False] * 3  # type: ignore[index]
    assert {task["study"] for task in tasks} == {"my_study"}  # type: ignore[index]
    assert len({task["design"] for task in tasks}) == 1  # type: ignore[index]
    assert [job["settings"]["seed"] for job in federation.jobs.values()][::2] == [5, 6, 7]  # type: ignore[index]


def test_what_sites_have_told_stands_in_one_table(file: Path, tmp_path: Path) -> None:
    run_in_federation(read_study(file), "x", FakeFederation(), tmp_path / "out")
    with (tmp_path / "out" / SUMMARIES_FILE).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * 2 * (2 + 1)
    assert rows[0] == {
        "arm": "fedavg",
        "seed": "5",
        "site": "east",
        "metric": "ssim",
        "patients": "7",
        "mean": str(ssim("fedavg", 5, "east")),
        "sd": "0.05",
    }
    assert {row["arm"] for row in rows} == {"fedavg", "fedprox", LOCAL_ARM}


def test_the_same_command_goes_on_and_submits_nothing_twice(file: Path, tmp_path: Path) -> None:
    federation, study = FakeFederation(failing="fedprox-seed-5"), read_study(file)
    with pytest.raises(DataError, match=r"fedprox-seed-5: .* the same command submits it again"):
        run_in_federation(study, "x", federation, tmp_path / "out")
    federation.unreachable = True
    with pytest.raises(DataError, match="cannot be reached"):
        run_in_federation(study, "x", federation, tmp_path / "out")
    assert federation.submitted == ["fedavg-seed-5", "fedprox-seed-5", "fedprox-seed-5"]
    federation.unreachable = False
    run_in_federation(study, "x", federation, tmp_path / "out")
    assert len(federation.submitted) == 6 + 1
    run_in_federation(study, "x", federation, tmp_path / "out")
    assert len(federation.submitted) == 6 + 1


def test_more_seeds_may_join_and_nothing_else_may_change(file: Path, tmp_path: Path) -> None:
    run_in_federation(read_study(file, [5]), "x", FakeFederation(), tmp_path / "out")
    federation = FakeFederation()
    run_in_federation(read_study(file, [6]), "x", federation, tmp_path / "out")
    assert federation.submitted == ["fedavg-seed-6", "fedprox-seed-6"]
    file.write_text(STUDY.replace("0.01", "0.02"), encoding="utf-8")
    with pytest.raises(ConfigError, match="another margin"):
        run_in_federation(read_study(file), "x", federation, tmp_path / "out")


def test_what_cannot_run_there_is_refused_before_the_first_job(file: Path, tmp_path: Path) -> None:
    file.write_text(STUDY.replace("federated}", "unseen}"), encoding="utf-8")
    federation = FakeFederation()
    with pytest.raises(ConfigError, match="take 'federated'"):
        run_in_federation(read_study(file), "x", federation, tmp_path / "out")
    file.write_text(STUDY, encoding="utf-8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds the runs of a simulation"):
        run_in_federation(read_study(file), "x", federation, tmp_path / "out")
    assert federation.submitted == []


def test_a_folder_that_is_no_kit_is_refused_in_a_sentence(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", str(tmp_path / "out"))
    assert main(["study", str(file), "--federation", str(tmp_path), *out]) == 2
    assert "is no kit; give the folder that holds 'startup'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_differences_are_taken_run_by_run(file: Path, tmp_path: Path) -> None:
    run_in_federation(read_study(file), "x", FakeFederation(), tmp_path / "out")
    study = read_federated(tmp_path / "out")
    (table,) = site_tables(study)
    assert table.patients == {"south": (12, 12), "east": (7, 7)}
    expected = [ssim("fedavg", seed, "south") for seed in (5, 6, 7)]
    assert table.cells["fedavg", "south"].mean == pytest.approx(fmean(expected))
    assert table.cells["fedavg", ALL].mean == pytest.approx(fmean(expected) + 0.05)
    found = differences(study, table)["fedprox", ALL]
    assert found.mean == pytest.approx(0.02)
    assert found.spread == pytest.approx(stdev([0.03, 0.01, 0.02]))


def test_the_joint_page_gives_the_numbers_names_what_it_leaves_out_and_who_told_nothing(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run_in_federation(read_study(file), "x", FakeFederation(silent="east"), out)
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))
    assert "Two <strategies>" in text and "12 patients" in text
    for left_out in ("rows of single patients", "pictures", "mean targets", "crossed t"):
        assert left_out in text
    assert "the centralised arm" in text and "took part in no training (island)" in text
    assert "Nothing is told of test patients at east" in text
    assert "Nothing is told of test patients at east" in capsys.readouterr().out
    assert (out / "report" / "tables" / "table-1.csv").is_file()


def test_a_study_of_which_no_site_tells_anything_has_no_page(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_federation(read_study(file, [5]), "x", FakeFederation(), tmp_path / "out")
    path = tmp_path / "out" / SUMMARIES_FILE
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n")
    assert main(["report", str(tmp_path / "out")]) == 2
    assert "no site has said anything of its test patients" in capsys.readouterr().err
    (tmp_path / "out" / FEDERATED_FILE).write_text("{}")
    assert main(["report", str(tmp_path / "out")]) == 2
    assert "damaged" in capsys.readouterr().err
