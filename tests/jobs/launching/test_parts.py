"""The parts of comparisons as jobs: their order, what is left of them, and what goes with a job."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from simulator_runs import SITES, TWO_SITES
from tiny_cohort import UNSEEN, write_tiny_cohort

from fedi2i.digest import digest
from jobs.running import baseline_arms, comparison, federated_arm
from jobs.running.arm_process import ArmFailedError, ArmProcess, finished_seconds
from jobs.running.comparison import EVALUATION, Comparison
from jobs.running.launching import parts
from jobs.running.launching.parts import PartJob, launch_comparisons
from jobs.running.launching.resources import Resources
from jobs.writing.federation import read_federated_experiment

ARMS = {"fedavg", "centralised", *(f"local-{site}" for site in SITES)}


class Machine:
    """Stands in for the cluster and for the processes of the arms; knows what ran, in order."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.losing = ""
        self.folder = Path("launched")

    def launch(self, jobs: Sequence[PartJob], *_: object) -> dict[str, str]:
        """Every job is sent to another process and run there; one is lost."""
        for job in jobs:
            if job.name != self.losing:
                pickle.loads(pickle.dumps(job))()  # noqa: S301
        return {job.name: str(number) for number, job in enumerate(jobs)}

    def sentence(self, called: str) -> str:
        return f"job {called} is lost"

    def run_process(self, process: ArmProcess, records: Path) -> float:
        if finished_seconds(process, records) is None:
            self.ran.append(f"{records.parent.name}/{process.name}")
            process.produces.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"model": {"w": torch.zeros(2)}}, process.produces)
            for folder in (process.produces.parent, process.produces.parent.parent):
                (folder / "metrics.csv").write_text("site,round,metric,value\n")
                (folder / "baselines.csv").write_text("arm,site,round,metric,value\n")
            records.mkdir(parents=True, exist_ok=True)
            record = json.dumps({"key": digest(process.key), "seconds": 1.0})
            (records / f"{process.name}.json").write_text(record)
        return 1.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    fake = Machine()
    for module in (comparison, federated_arm, baseline_arms):
        monkeypatch.setattr(module, "run_process", fake.run_process)
    monkeypatch.setattr(parts, "launch", fake.launch)
    monkeypatch.setattr(parts, "Cluster", lambda *given: fake)
    monkeypatch.setattr(parts, "_SECONDS_FOR_FILES", 1)
    return fake


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_cohort(tmp_path_factory.mktemp("tiny"), (*SITES, UNSEEN))


def two_seeds(data: Path, out: Path) -> list[Comparison]:
    job = read_federated_experiment(TWO_SITES)
    experiments = [replace(job.experiment, seed=seed) for seed in (1, 2)]
    return [
        Comparison(
            replace(job, experiment=one),
            data,
            out / f"seed-{one.seed}",
            ("fedavg",),
            None,
            "Two seeds",
            regression=False,
        )
        for one in experiments
    ]


def test_the_arms_of_all_seeds_come_before_the_first_evaluation(
    data: Path, tmp_path: Path, machine: Machine
) -> None:
    launch_comparisons(two_seeds(data, tmp_path), "local", tmp_path, Resources())
    arms = {f"seed-{seed}/{arm}" for seed in (1, 2) for arm in ARMS}
    assert set(machine.ran[: len(arms)]) == arms
    assert machine.ran[len(arms) :] == [f"seed-{seed}/{EVALUATION}" for seed in (1, 2)]
    assert all((tmp_path / f"seed-{seed}" / "run.json").is_file() for seed in (1, 2))


def test_a_lost_job_is_named_and_the_same_command_runs_it_and_nothing_else_again(
    data: Path, tmp_path: Path, machine: Machine
) -> None:
    machine.losing = "seed-2/local-east"
    with pytest.raises(ArmFailedError, match=r"1 of 8 jobs .* seed-2/local-east: job \d is lost"):
        launch_comparisons(two_seeds(data, tmp_path), "local", tmp_path, Resources())
    before, machine.losing = len(machine.ran), ""
    assert "seed-1/evaluation" not in machine.ran
    launch_comparisons(two_seeds(data, tmp_path), "local", tmp_path, Resources())
    again = machine.ran[before:]
    assert again == ["seed-2/local-east", "seed-1/evaluation", "seed-2/evaluation"]
    launch_comparisons(two_seeds(data, tmp_path), "local", tmp_path, Resources())
    assert len(machine.ran) == before + 3
