"""The CT tasks in the simulator: the committed smoke experiments learn, in Hounsfield units.

Faster: tests/strategies/test_ct_tasks.py trains the same tasks, and every strategy, in one process.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from simulator_runs import simulate

from jobs.__main__ import main as jobs_command
from partitions.__main__ import main as partitions_command

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1800)]

EXPERIMENTS = Path(__file__).parents[2] / "jobs" / "experiments"


@pytest.mark.parametrize(
    ("task", "name", "error"),
    [
        ("mr-ct", "mr_ct_smoke", "val/mae_hu"),
        ("cbct-ct", "cbct_ct_smoke", "val/mae_hu"),
        ("ldct", "ldct_computed_smoke", "val/rmse_hu"),
    ],
)
def test_the_smoke_experiment_of_a_ct_task_learns(
    tmp_path: Path, task: str, name: str, error: str
) -> None:
    data, job, workspace = tmp_path / "data", tmp_path / name, tmp_path / "ws"
    demo = ["demo", "--task", task, "--size", "smoke", "--out", str(data)]
    assert partitions_command(demo) == 0
    experiment = str(EXPERIMENTS / f"{name}.yaml")
    export = ["export", "fedavg", "--experiment", experiment, "--out", str(job)]
    assert jobs_command(export) == 0
    assert jobs_command(["workspace", str(workspace), "--dataset", f"{name}={data}"]) == 0
    found = simulate(job, workspace, "-t", "3")
    assert found.exit_code == 0, found.output[-3000:]
    first, last = (found.metrics["all", finished, error] for finished in (0, 3))
    assert last < 0.6 * first, (first, last)
