"""Real runs of NVFlare's simulator on the tiny federation."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from jobs.__main__ import main as jobs_command

EXPERIMENT = Path(__file__).parent / "experiments" / "tiny.yaml"
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
        env={**os.environ, "OMP_NUM_THREADS": "1"},
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


def export(folder: Path, *options: str, strategy: str = "fedavg") -> Path:
    """Export a job for the tiny federation."""
    command = ["export", strategy, "--experiment", str(EXPERIMENT), "--out", str(folder)]
    assert jobs_command([*command, *options]) == 0
    return folder


def prepared_workspace(folder: Path, data: Path) -> Path:
    """A simulator workspace that maps the tiny federation."""
    assert jobs_command(["workspace", str(folder), "--dataset", f"tiny={data}"]) == 0
    return folder
