"""What ``nvflare simulator`` gives: a model that has learnt, the same on every way to run it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from simulator_runs import SimulatorRun, simulate
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SITES = {"north", "east", "south", "west"}

pytestmark = pytest.mark.slow


def global_metric(run: SimulatorRun, metric: str) -> list[float]:
    """The mean over sites of a metric, round after round."""
    with (run.run_folder / "metrics.csv").open(newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["site"] == "all" and r["metric"] == metric]
    return [float(row["value"]) for row in sorted(rows, key=lambda row: int(row["round"]))]


def test_the_federation_learns_and_says_so_in_metrics_csv(finished_run: SimulatorRun) -> None:
    assert finished_run.exit_code == 0, finished_run.output[-3000:]
    psnr = global_metric(finished_run, "val/psnr")
    assert len(psnr) == 4, "initial model, after each of three rounds"
    assert psnr[-1] > psnr[0] + 1.0, psnr
    ssim = global_metric(finished_run, "val/ssim")
    assert ssim[-1] > ssim[0] + 0.1, ssim
    losses = global_metric(finished_run, "train/l1")
    assert losses[-1] < 0.8 * losses[0], losses


def test_the_server_keeps_the_final_and_the_best_model(finished_run: SimulatorRun) -> None:
    app = finished_run.run_folder / "app_server"
    best = torch.load(app / "best_FL_global_model.pt", weights_only=True)["model"]
    psnr = global_metric(finished_run, "val/psnr")
    final_is_best = psnr[-1] == max(psnr[1:])
    equal = all(torch.equal(best[key], value) for key, value in finished_run.weights.items())
    assert equal == final_is_best


def test_the_global_model_holds_the_two_networks_and_nothing_else(
    finished_run: SimulatorRun,
) -> None:
    modules = {key.split(".")[0] for key in finished_run.weights}
    assert modules == {"generator", "discriminator"}


def test_a_second_run_gives_the_same_weights_bit_for_bit(
    finished_run: SimulatorRun, tiny_job: Path, new_workspace: Callable[[str], Path]
) -> None:
    again = simulate(tiny_job, new_workspace("again"), "-t", "2")
    assert again.exit_code == 0, again.output[-3000:]
    assert_same(again.weights, finished_run.weights)


def test_one_thread_gives_the_same_weights_as_four_bit_for_bit(
    finished_run: SimulatorRun, tiny_job: Path, new_workspace: Callable[[str], Path]
) -> None:
    one_thread = simulate(tiny_job, new_workspace("one_thread"))
    assert one_thread.exit_code == 0, one_thread.output[-3000:]
    assert_same(one_thread.weights, finished_run.weights)


def test_a_gpu_number_is_accepted_where_there_is_no_gpu(
    finished_run: SimulatorRun, tiny_job: Path, new_workspace: Callable[[str], Path]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, whose sums round differently")
    run = simulate(tiny_job, new_workspace("gpu"), "-t", "4", "-gpu", "0")
    assert_same(run.weights, finished_run.weights)


def test_tensorboard_shows_every_site_the_server_and_pictures(finished_run: SimulatorRun) -> None:
    events = finished_run.run_folder / "tb_events"
    shown = {folder.name: EventAccumulator(str(folder)).Reload() for folder in events.iterdir()}
    assert set(shown) == SITES | {"simulator_server"}
    for site in SITES:
        tags = shown[site].Tags()
        assert {"train/l1", "train/loss_discriminator", "val/psnr"} <= set(tags["scalars"])
        assert tags["images"] == ["val/source_target_translated_error"]
        # Three rounds and the final model; curves every ten of forty steps.
        assert len(shown[site].Images("val/source_target_translated_error")) == 4
        assert [e.step for e in shown[site].Scalars("train/l1")] == list(range(10, 121, 10))
    assert "global/val/psnr" in shown["simulator_server"].Tags()["scalars"]


def test_a_workspace_that_was_not_prepared_refuses_our_classes(
    tiny_job: Path, tmp_path: Path
) -> None:
    run = simulate(tiny_job, tmp_path / "unprepared", "-t", "4")
    assert "is not in allow_list" in run.output
    assert not (run.run_folder / "app_server" / "FL_global_model.pt").exists()


def assert_same(weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Every tensor equal to the last bit."""
    assert set(weights) == set(expected)
    different = [key for key in expected if not torch.equal(weights[key], expected[key])]
    assert not different
