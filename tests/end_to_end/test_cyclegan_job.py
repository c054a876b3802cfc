"""CycleGAN in the simulator: the committed smoke experiment learns, one-domain sites take part.

Faster: tests/strategies/test_one_domain_sites.py and test_cyclegan.py in one process, and
test_cyclegan_learner.py, where a site learns the other contrast without pairs.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from simulator_runs import EXPERIMENT, SimulatorRun, simulate
from tiny_cohort import keep_one_domain, write_tiny_cohort

from jobs.__main__ import main as jobs_command
from partitions.__main__ import main as partitions_command

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1800)]

EXPERIMENTS = Path(__file__).parents[2] / "jobs" / "experiments"


def run(folder: Path, experiment: Path, dataset: str, *settings: str) -> SimulatorRun:
    job, workspace = folder / "cyclegan", folder / "ws"
    options = [part for setting in settings for part in ("--set", setting)]
    export = ["export", "fedavg", "--experiment", str(experiment), "--out", str(job), *options]
    assert jobs_command(export) == 0
    assert jobs_command(["workspace", str(workspace), "--dataset", dataset]) == 0
    return simulate(job, workspace, "-t", "4")


def test_the_smoke_experiment_learns_the_other_contrast_without_pairs(tmp_path: Path) -> None:
    data = tmp_path / "smoke"
    assert partitions_command(["demo", "--out", str(data), "--size", "smoke"]) == 0
    found = run(tmp_path, EXPERIMENTS / "cyclegan_smoke.yaml", f"smoke={data}")
    assert found.exit_code == 0, found.output[-3000:]
    metrics = found.metrics
    first, last = metrics["all", 0, "val/psnr"], metrics["all", 4, "val/psnr"]
    assert last > first + 2.0, (first, last)
    first, last = metrics["all", 0, "val/ssim"], metrics["all", 4, "val/ssim"]
    assert last > first + 0.1, (first, last)


def test_a_source_only_and_a_target_only_site_take_part_with_their_generators(
    tmp_path: Path,
) -> None:
    data = write_tiny_cohort(tmp_path / "data")
    keep_one_domain(data / "south", "t1")
    keep_one_domain(data / "west", "t2")
    found = run(
        tmp_path,
        EXPERIMENT,
        f"tiny={data}",
        "model.name=cyclegan",
        "model.lambda_identity=0",
        "data.preparation.pairing=unpaired",
        "training.steps=20",
    )
    assert found.exit_code == 0, found.output[-3000:]
    metrics = found.metrics
    sent = {site: metrics[site, 0, "traffic/bytes_received"] for site in ("north", "south", "west")}
    assert sent["south"] == sent["west"] < sent["north"], sent
    for site in ("south", "west"):
        assert (site, 0, "train/cycle") in metrics
        assert (site, 0, "train/loss_discriminator") not in metrics
    assert ("north", 0, "train/loss_discriminator") in metrics
