"""Grids of strategies' settings: the same budget for each, in ranges that the strategies accept."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tiny_cohort import write_tiny_cohort

from app_custom.participant.site_configuration import checked_run_name
from fedi2i.errors import ConfigError
from jobs.running import federated_arm
from jobs.running.arm_process import ArmProcess
from jobs.running.grid import run_grid
from jobs.writing.federation import read_federated_experiment, with_strategy
from lightning_modules.strategies.catalogue import STRATEGY_JOBS, grid_of

TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"
TUNED = [name for name, job in STRATEGY_JOBS.items() if job.strategy.grid]
METRICS = "site,round,metric,value\nnorth,0,traffic/bytes_sent,1000000\nall,1,val/psnr,{psnr}\n"


def test_every_strategy_has_the_same_budget_of_four_different_settings() -> None:
    assert {"fedprox", "feddyn", "ditto", "fedavgm", "fedadam", "fedyogi", "scaffold"} <= set(TUNED)
    for name in TUNED:
        assert len({tuple(settings.items()) for settings in grid_of(name)}) == 4, name


@pytest.mark.parametrize("name", TUNED)
def test_every_setting_of_a_grid_is_one_of_the_strategy_and_in_its_range(name: str) -> None:
    job = read_federated_experiment(TINY)
    for settings in grid_of(name):
        strategy = with_strategy(job, name, settings).experiment.strategy
        assert {key: getattr(strategy.settings, key) for key in settings} == settings


def test_a_tuned_strategy_is_compared_as_it_was_tuned_and_the_others_with_their_defaults() -> None:
    tuned = {"experiment": {"strategy": {"name": "fedprox", "mu_generator": 5.0}}}
    job = read_federated_experiment(TINY, tuned)
    assert with_strategy(job, "fedprox").experiment.strategy.settings.mu_generator == 5.0
    assert (
        with_strategy(job, "fedprox", {"mu_generator": 0.1}).experiment.strategy
        == (
            with_strategy(read_federated_experiment(TINY), "fedprox", {"mu_generator": 0.1})
        ).experiment.strategy
    )
    for other in ("ditto", "fedavg"):
        plain = with_strategy(read_federated_experiment(TINY), other)
        assert with_strategy(job, other).experiment.strategy == plain.experiment.strategy


@pytest.mark.parametrize(("tuned", "other"), [("fedadam", "fedyogi"), ("fedyogi", "fedadam")])
def test_what_makes_one_job_of_a_strategy_is_not_carried_to_another(tuned: str, other: str) -> None:
    values = {"strategy": {**STRATEGY_JOBS[tuned].values, "server_tau": 0.5}}
    job = read_federated_experiment(TINY, {"experiment": values})
    found = with_strategy(job, other).experiment.strategy
    expected = with_strategy(read_federated_experiment(TINY), other).experiment.strategy
    assert found.settings.server_optimizer == expected.settings.server_optimizer
    assert found.settings.server_tau == 0.5


def test_a_strategy_without_a_grid_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown strategy 'fedprx'.*fedprox"):
        grid_of("fedprx")
    with pytest.raises(ConfigError, match=r"'fedavg' has no grid; these have one: .*ditto"):
        grid_of("fedavg")


def test_a_grid_runs_every_setting_in_a_folder_of_its_own_and_lists_their_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspaces: list[Path] = []

    def finished(process: ArmProcess, records: Path) -> float:
        workspaces.append(Path(process.command[process.command.index("-w") + 1]))
        metrics = workspaces[-1] / "server" / "simulate_job" / "metrics.csv"
        metrics.parent.mkdir(parents=True)
        metrics.write_text(METRICS.format(psnr=20 + len(workspaces)), encoding="utf-8")
        return 7.0

    monkeypatch.setattr(federated_arm, "run_process", finished)
    data, out = write_tiny_cohort(tmp_path / "data"), tmp_path / "grid"
    run_grid(read_federated_experiment(TINY), data, out, "fedprox")

    assert len(set(workspaces)) == 4
    names = []
    for file in out.rglob("config_fed_server.json"):
        components = json.loads(file.read_text(encoding="utf-8"))["components"]
        (saving,) = [item["args"] for item in components if item["id"] == "continuation"]
        names.append(checked_run_name(saving["run_name"]))  # participants refuse other names
    assert len(set(names)) == 4
    with (out / "strategies.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["psnr"]) for row in rows] == [21.0, 22.0, 23.0, 24.0]
    assert "mu_generator=0.001" in rows[0]["strategy"]
    assert "mu_generator=1" in capsys.readouterr().out
