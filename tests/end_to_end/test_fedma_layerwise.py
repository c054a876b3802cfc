"""FedMA layer by layer, whose sites train fewer and fewer layers, on the tiny federation.

Faster: tests/strategies/test_fedma.py, stage by stage in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulator_runs import SimulatorRun, export, simulate

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def run(
    new_workspace: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimulatorRun]:
    """One pass. Twice the steps of the other strategies' runs: finished layers learn no more."""
    job = tmp_path_factory.mktemp("jobs") / "fedma_layerwise"
    export(job, "--rounds", "4", "--steps", "80", strategy="fedma_layerwise")
    finished = simulate(job, new_workspace("layerwise"), "-t", "4")
    assert finished.exit_code == 0, finished.output[-3000:]
    yield finished


def test_it_learns(run: SimulatorRun) -> None:
    psnr = [run.metrics["all", number, "val/psnr"] for number in (0, 4)]
    assert psnr[1] > psnr[0] + 1.0


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_round_moves_channels_of_one_layer_and_the_next_round_those_of_another(
    run: SimulatorRun, network: str
) -> None:
    prefix = f"fedma/moved/{network}/"
    moved = [(number, metric) for (_, number, metric) in run.metrics if metric.startswith(prefix)]
    rounds = [number for number, _ in set(moved)]
    assert sorted(rounds) == list(range(len(rounds))), moved
    assert len({metric for _, metric in moved}) == len(rounds) > 1
