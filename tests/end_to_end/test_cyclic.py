"""Cyclic training in NVFlare's simulator: the model goes from site to site."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jobs.writing.strategy_jobs import strategy_overrides
from simulator_runs import EXPERIMENT, SimulatorRun, export, prepared_workspace, simulate
from test_faults import simulate_and_kill
from test_simulator import assert_same

from jobs.writing.federation import read_federated_experiment
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.training.hardware import choose_hardware, threads_for
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.manifest import read_manifest
from partitions.preparation import prepare_site

pytestmark = pytest.mark.slow

ORDER = ("south", "east")
ROUNDS, STEPS = 2, 60
OPTIONS = ("--sites", ",".join(ORDER), "--rounds", str(ROUNDS), "--steps", str(STEPS))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites, in an order that is not that of their names."""
    return export(tmp_path_factory.mktemp("jobs") / "cyclic", *OPTIONS, strategy="cyclic")


@pytest.fixture(scope="module")
def finished(job: Path, new_workspace: Callable[[str], Path]) -> SimulatorRun:
    """One undisturbed run with both sites at a time."""
    run = simulate(job, new_workspace("cyclic"), "-t", "2")
    assert run.exit_code == 0, run.output[-3000:]
    return run


def test_the_model_learns_on_its_way_from_site_to_site(finished: SimulatorRun) -> None:
    metrics = finished.metrics
    initial = metrics["south", 0, "relay/psnr"]
    assert metrics["south", ROUNDS, "val/psnr"] > initial + 1.0, metrics
    assert metrics["all", ROUNDS, "val/psnr"] > initial + 1.0, metrics
    assert metrics["all", ROUNDS - 1, "train/l1"] < 0.8 * metrics["all", 0, "train/l1"]


def test_there_is_a_mean_over_sites_of_one_model_only(finished: SimulatorRun) -> None:
    rounds = {r for _, r, metric in finished.metrics if metric == "val/psnr"}
    assert rounds == {ROUNDS}
    relayed = {site for site, _, metric in finished.metrics if metric.startswith("relay/")}
    assert relayed == set(ORDER)
    assert not (finished.run_folder / "app_server" / "best_FL_global_model.pt").exists()


def test_the_weights_are_those_of_a_plain_loop_of_the_learner_over_the_sites(
    finished: SimulatorRun, tiny_cohort: Path, tmp_path: Path
) -> None:
    changes = {
        "federation": {"sites": list(ORDER), "unseen": []},
        "experiment": {
            **strategy_overrides("cyclic"),
            "training": {"rounds": ROUNDS, "steps": STEPS},
        },
    }
    experiment = read_federated_experiment(EXPERIMENT, changes).experiment
    hardware = choose_hardware("auto", threads_for(len(ORDER)))
    learners = {}
    for site in ORDER:
        manifest = read_manifest(tiny_cohort / site, expected_site=site)
        prepared = prepare_site(manifest, experiment.data.preparation, tmp_path / site)
        slices = TrainingSlices([prepared.split("train")])
        store = LocalStateStore(tmp_path / "state" / site)
        learners[site] = Learner(experiment, site, slices, hardware, store)
    state = learners[ORDER[0]].initial_state()
    for round_number in range(ROUNDS):
        for site in ORDER:
            state = learners[site].train(state, round_number).state
    assert_same(finished.weights, state)


def test_one_thread_gives_the_same_weights_and_metrics_as_two(
    finished: SimulatorRun, job: Path, new_workspace: Callable[[str], Path]
) -> None:
    run = simulate(job, new_workspace("cyclic_one_thread"))
    assert run.exit_code == 0, run.output[-3000:]
    assert_same(run.weights, finished.weights)
    assert without_times(run) == without_times(finished)


def test_after_a_crash_the_finished_rounds_are_kept_and_the_weights_are_the_same(
    finished: SimulatorRun, job: Path, new_workspace: Callable[[str], Path]
) -> None:
    workspace = new_workspace("cyclic_killed")
    broken = simulate_and_kill(job, workspace, "south", 1, "-t", "2")
    assert broken.exit_code != 0
    assert "site 'south' is lost" in broken.output
    assert "the run ended after 1 of 2 rounds; start the same job again" in broken.output

    continued = simulate(job, workspace, "-t", "2")
    assert continued.exit_code == 0, continued.output[-3000:]
    assert "continuing an interrupted run after 1 of 2 finished rounds" in continued.output
    assert "round 0: trained at" not in continued.output
    assert_same(continued.weights, finished.weights)
    assert without_times(continued) == without_times(finished)


def test_a_site_that_cannot_train_ends_the_job_with_its_name(
    job: Path, tiny_cohort: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_cohort, data)
    shutil.rmtree(data / "east")
    run = simulate(job, prepared_workspace(tmp_path / "ws", data), "-t", "2")
    assert run.exit_code != 0
    assert f"{data / 'east'}: no such data folder" in run.output
    assert "round 0: site 'east' could not train (EXECUTION_EXCEPTION)" in run.output
    assert "Round 0 finished" not in run.output


def without_times(run: SimulatorRun) -> dict[tuple[str, int, str], float]:
    """The numbers that a second run must repeat."""
    return {key: value for key, value in run.metrics.items() if not key[2].startswith("time/")}


def test_the_model_file_holds_torch_tensors_of_both_networks(finished: SimulatorRun) -> None:
    assert {key.split(".")[0] for key in finished.weights} == {"generator", "discriminator"}
    assert all(isinstance(value, torch.Tensor) for value in finished.weights.values())
