"""Real runs of NVFlare's simulator on sites of the tiny cohort."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from jobs.__main__ import main as jobs_command

EXPERIMENT = Path(__file__).parent / "experiments" / "tiny.yaml"
TWO_SITES = Path(__file__).parent / "experiments" / "two_sites.yaml"
SITES, ROUNDS = ("south", "east"), 3
"""Of ``two_sites.yaml``."""
TIMEOUT_SECONDS = 800


@dataclass(frozen=True)
class SimulatorRun:
    """A finished run: where it ran, how it ended, what it printed."""

    workspace: Path
    exit_code: int
    output: str

    @property
    def run_folder(self) -> Path:
        """The server's folder of the run."""
        return self.workspace / "server" / "simulate_job"

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The final global model."""
        return self.model("FL_global_model.pt")

    def model(self, name: str) -> dict[str, torch.Tensor]:
        """A model file of the server."""
        path = self.run_folder / "app_server" / name
        model: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
        return model

    @property
    def metrics(self) -> dict[tuple[str, int, str], float]:
        """The server's record: (site, round, metric) to value."""
        with (self.run_folder / "metrics.csv").open(newline="", encoding="utf-8") as stream:
            return {
                (row["site"], int(row["round"]), row["metric"]): float(row["value"])
                for row in csv.DictReader(stream)
            }


def simulator(job: Path, workspace: Path, *options: str) -> subprocess.Popen[str]:
    """Start ``nvflare simulator`` in the workspace's parent folder."""
    program = Path(sys.executable).with_name("nvflare")
    return subprocess.Popen(
        [str(program), "simulator", str(job), "-w", str(workspace), *options],
        cwd=workspace.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Weights are compared with those that a processor's one thread computes.
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        start_new_session=True,
    )


def simulate(job: Path, workspace: Path, *options: str) -> SimulatorRun:
    """Run ``nvflare simulator`` to its end."""
    with simulator(job, workspace, *options) as process:
        try:
            output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, _ = process.communicate()
            pytest.fail(f"the simulator did not end:\n{output[-3000:]}")
    return SimulatorRun(workspace, process.returncode, output)


def simulate_once(folder: Path, name: str, run: Callable[[Path], SimulatorRun]) -> SimulatorRun:
    """A run that the first of several test processes makes and the others find.

    Args:
        folder: the folder that the processes share.
        name: of the run.
        run: makes the run in the folder that it is given.
    """
    place = folder / name
    record = place / "ended.json"
    with FileLock(folder / f"{name}.lock"):
        if not record.exists():
            place.mkdir()
            made = run(place)
            ended = [str(made.workspace), made.exit_code, made.output]
            record.write_text(json.dumps(ended), encoding="utf-8")
    workspace, exit_code, output = json.loads(record.read_text(encoding="utf-8"))
    return SimulatorRun(Path(workspace), exit_code, output)


def export(
    folder: Path, *options: str, strategy: str = "fedavg", experiment: Path = EXPERIMENT
) -> Path:
    """Export a job for sites of the tiny cohort."""
    command = ["export", strategy, "--experiment", str(experiment), "--out", str(folder)]
    assert jobs_command([*command, *options]) == 0
    return folder


def prepared_workspace(folder: Path, data: Path) -> Path:
    """A simulator workspace that maps the tiny cohort and gives every site one thread."""
    command = ["workspace", str(folder), "--dataset", f"tiny={data}", "--torch-threads", "1"]
    assert jobs_command(command) == 0
    return folder


def assert_same(weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Every tensor is equal to the last bit."""
    assert expected
    assert set(weights) == set(expected)
    different = [key for key in expected if not torch.equal(weights[key], expected[key])]
    assert not different
