"""Half the bytes, the same learning: a compressed job beside a plain one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from simulator_runs import ROUNDS, TWO_SITES, SimulatorRun, export, simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def compressed_run(
    new_workspace: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> SimulatorRun:
    """The job of ``finished_run`` with arrays that travel in fp16."""
    job = tmp_path_factory.mktemp("jobs") / "fedavg"
    export(job, "--compression", "fp16", experiment=TWO_SITES)
    run = simulate(job, new_workspace("compressed"), "-t", "2")
    assert run.exit_code == 0, run.output[-3000:]
    return run


def test_it_learns_as_much_as_without(
    compressed_run: SimulatorRun, finished_run: SimulatorRun
) -> None:
    start = finished_run.metrics["all", 0, "val/psnr"]
    plain = finished_run.metrics["all", ROUNDS, "val/psnr"] - start
    assert plain > 1.0
    assert compressed_run.metrics["all", ROUNDS, "val/psnr"] - start > 0.9 * plain


@pytest.mark.parametrize("way", ["traffic/bytes_sent", "traffic/bytes_received"])
def test_half_the_bytes_travel(
    compressed_run: SimulatorRun, finished_run: SimulatorRun, way: str
) -> None:
    for number in range(ROUNDS):
        plain = finished_run.metrics["east", number, way]
        assert compressed_run.metrics["east", number, way] == 0.5 * plain


def test_the_final_model_is_kept_in_full_precision(compressed_run: SimulatorRun) -> None:
    assert {str(value.dtype) for value in compressed_run.weights.values()} == {"torch.float32"}
