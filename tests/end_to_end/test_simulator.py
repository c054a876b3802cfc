"""What ``nvflare simulator`` gives: a model that has learnt, the same on every way to run it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from in_process_federation import InProcessFederation
from simulator_runs import (
    ROUNDS,
    SITES,
    TWO_SITES,
    SimulatorRun,
    assert_same,
    simulate,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jobs.writing.federation import read_federated_experiment
from lightning_modules.translation.model_file import read_model
from partitions.manifest import read_manifest
from partitions.preparation import prepare_site

pytestmark = pytest.mark.slow


def global_metric(run: SimulatorRun, metric: str) -> list[float]:
    """The mean over sites of a metric, round after round."""
    with (run.run_folder / "metrics.csv").open(newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["site"] == "all" and r["metric"] == metric]
    return [float(row["value"]) for row in sorted(rows, key=lambda row: int(row["round"]))]


def test_the_federation_learns_and_says_so_in_metrics_csv(finished_run: SimulatorRun) -> None:
    assert finished_run.exit_code == 0, finished_run.output[-3000:]
    psnr = global_metric(finished_run, "val/psnr")
    assert len(psnr) == ROUNDS + 1, "initial model, after each of three rounds"
    assert psnr[-1] > psnr[0] + 1.0, psnr
    ssim = global_metric(finished_run, "val/ssim")
    assert ssim[-1] > ssim[0] + 0.1, ssim
    losses = global_metric(finished_run, "train/l1")
    assert losses[-1] < 0.8 * losses[0], losses


def test_the_weights_are_those_of_the_same_federation_in_one_process(
    finished_run: SimulatorRun, tiny_cohort: Path, tmp_path: Path
) -> None:
    """So what tests/strategies proves of a federation in one process holds in the simulator."""
    experiment = read_federated_experiment(TWO_SITES, {}).experiment
    sites = {
        site: prepare_site(
            read_manifest(tiny_cohort / site),
            experiment.data.preparation,
            tmp_path / "prepared" / site,
            progress=False,
        )
        for site in SITES
    }
    federation = InProcessFederation(experiment, sites, tmp_path / "state", len(SITES))
    weights = federation.run(rounds=ROUNDS)
    assert_same(finished_run.weights, {k: torch.as_tensor(v) for k, v in weights.items()})


def test_the_server_keeps_the_final_and_the_best_model(finished_run: SimulatorRun) -> None:
    app = finished_run.run_folder / "app_server"
    best = torch.load(app / "best_FL_global_model.pt", weights_only=True)["model"]
    psnr = global_metric(finished_run, "val/psnr")
    final_is_best = psnr[-1] == max(psnr[1:])
    equal = all(torch.equal(best[key], value) for key, value in finished_run.weights.items())
    assert equal == final_is_best


def test_the_files_for_translate_hold_the_generator_its_last_rounds_and_the_results(
    finished_run: SimulatorRun,
) -> None:
    app = finished_run.run_folder / "app_server"
    final = read_model(app / "FL_global_model.safetensors")
    generator = {f"generator.{key}": value for key, value in final.weights.items()}
    assert all(torch.equal(finished_run.weights[key], value) for key, value in generator.items())
    assert list(final.earlier) == [1, 2, 3]
    last = final.earlier[3]
    assert all(torch.equal(last[key], value) for key, value in final.weights.items())
    assert final.card.training.results["val/psnr"] == global_metric(finished_run, "val/psnr")[-1]
    assert final.card.training.samples.keys() == set(SITES)
    best = read_model(app / "best_FL_global_model.safetensors")
    assert best.card.training.chosen == "best" and best.card.training.rounds


def test_the_global_model_holds_the_two_networks_and_nothing_else(
    finished_run: SimulatorRun,
) -> None:
    modules = {key.split(".")[0] for key in finished_run.weights}
    assert modules == {"generator", "discriminator"}


def test_tensorboard_shows_every_site_the_server_and_pictures(finished_run: SimulatorRun) -> None:
    events = finished_run.run_folder / "tb_events"
    shown = {folder.name: EventAccumulator(str(folder)).Reload() for folder in events.iterdir()}
    assert set(shown) == {*SITES, "simulator_server"}
    for site in SITES:
        tags = shown[site].Tags()
        assert {"train/l1", "train/loss_discriminator", "val/psnr"} <= set(tags["scalars"])
        assert tags["images"] == ["val/source_target_translated_error"]
        # Three rounds and the final model; curves every ten of eighty steps.
        assert len(shown[site].Images("val/source_target_translated_error")) == 4
        assert [e.step for e in shown[site].Scalars("train/l1")] == list(range(10, 241, 10))
    assert "global/val/psnr" in shown["simulator_server"].Tags()["scalars"]


def test_a_workspace_that_was_not_prepared_refuses_our_classes(
    tiny_job: Path, tmp_path: Path
) -> None:
    run = simulate(tiny_job, tmp_path / "unprepared", "-t", "2")
    assert "is not in allow_list" in run.output
    assert not (run.run_folder / "app_server" / "FL_global_model.pt").exists()


@pytest.mark.nightly
def test_one_thread_gives_the_same_weights_as_two_bit_for_bit(
    finished_run: SimulatorRun, tiny_job: Path, new_workspace: Callable[[str], Path]
) -> None:
    """Faster: test_faults.py continues a run with one thread to the same weights."""
    one_thread = simulate(tiny_job, new_workspace("one_thread"))
    assert one_thread.exit_code == 0, one_thread.output[-3000:]
    assert_same(one_thread.weights, finished_run.weights)


@pytest.mark.nightly
def test_a_gpu_number_is_accepted_where_there_is_no_gpu(
    finished_run: SimulatorRun, tiny_job: Path, new_workspace: Callable[[str], Path]
) -> None:
    """Faster: test_hardware.py chooses the processor where torch finds no GPU."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, whose sums round differently")
    run = simulate(tiny_job, new_workspace("gpu"), "-t", "2", "-gpu", "0")
    assert_same(run.weights, finished_run.weights)
