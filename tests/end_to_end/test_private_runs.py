"""Jobs with filters on updates in NVFlare's simulator: they act, say what they are, and go on.

Nightly. Faster tests of the same statements: ``tests/app_custom/privacy`` for what the filters do,
``tests/jobs/test_privacy_jobs.py`` for where they stand, ``tests/app_custom/server`` for what is
told, ``tests/provision/one_federation`` for differential privacy between real processes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from simulator_runs import EXPERIMENT, SimulatorRun, export, simulate

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.timeout(1200)]

ROUNDS = 2
SIZES = ("--rounds", str(ROUNDS), "--steps", "40")


def run(name: str, new_workspace: Callable[[str], Path], folder: Path) -> SimulatorRun:
    job = export(folder / name, *SIZES, strategy=name, experiment=EXPERIMENT)
    finished = simulate(job, new_workspace(name), "-t", "4")
    assert finished.exit_code == 0, finished.output[-3000:]
    return finished


@pytest.mark.parametrize("name", ["fedavg_percentile", "fedavg_svt"])
def test_a_filter_without_a_guarantee_says_so_every_round_and_the_model_learns(
    name: str, new_workspace: Callable[[str], Path], tmp_path: Path
) -> None:
    finished = run(name, new_workspace, tmp_path)
    said = finished.output
    assert said.count("which is not differential privacy: what leaves has cosine") >= 4 * ROUNDS
    metrics = finished.metrics
    assert not any(metric.startswith("privacy/") for _, _, metric in metrics)
    assert metrics["all", ROUNDS, "val/psnr"] > metrics["all", 0, "val/psnr"]


@pytest.mark.parametrize("name", ["fedavg_dp", "fedprox_dp", "fedma_dp"])
def test_noised_updates_are_accounted_for_and_said_to_protect_nobody(
    name: str, new_workspace: Callable[[str], Path], tmp_path: Path
) -> None:
    finished = run(name, new_workspace, tmp_path)
    for number in range(ROUNDS):
        spent = {
            site: value
            for (site, of, metric), value in finished.metrics.items()
            if (of, metric) == (number, "privacy/epsilon_total")
        }
        assert set(spent) == {"north", "east", "south", "west", "all"}
        assert min(spent.values()) > 20_000
    assert finished.output.count("it shows the mechanism and protects nobody") >= 5 * ROUNDS
    assert "into its simulated privacy ledger" in finished.output
