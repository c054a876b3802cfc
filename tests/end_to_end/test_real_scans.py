"""A federated round on real scans of three hospitals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from simulator_runs import simulate

from jobs.__main__ import main as jobs_command
from jobs.commands.job_folders import JOBS_FOLDER
from partitions.__main__ import main as partitions_command

pytestmark = pytest.mark.slow


def test_three_hospitals_of_tcga_lgg_train_one_round_together(
    shared_data: Path, tmp_path: Path
) -> None:
    source, data = shared_data / "lgg" / "kaggle_3m", tmp_path / "lgg"
    if not source.is_dir():
        pytest.skip(f"no TCGA-LGG scans at {source}")
    assert partitions_command(["lgg", "--source", str(source), "--out", str(data)]) == 0
    experiment = JOBS_FOLDER / "experiments" / "lgg.yaml"
    small = (
        "training.batch_size=2",
        "model.generator.channels=[8,16]",
        "model.discriminator.channels=8",
        "model.discriminator.layers=2",
    )
    settings = [part for setting in small for part in ("--set", setting)]
    job = tmp_path / "job"
    command = ["export", "fedprox", "--experiment", str(experiment), "--out", str(job)]
    assert jobs_command([*command, "--rounds", "1", "--steps", "6", *settings]) == 0
    workspace = tmp_path / "ws"
    assert jobs_command(["workspace", str(workspace), "--dataset", f"lgg={data}"]) == 0
    run = simulate(job, workspace, "-t", "3")
    assert run.exit_code == 0, run.output[-3000:]
    for site in ("CS", "DU", "HT"):
        assert f"Contribution from {site} ACCEPTED" in run.output
    assert all(torch.isfinite(value).all() for value in run.weights.values())
