"""A study on a real Slurm of one node: an arm is killed in the middle, the same command ends it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from one_node_slurm import one_node_slurm, skip_without_slurm
from simulator_runs import SITES, TWO_SITES
from tiny_cohort import UNSEEN, write_tiny_cohort

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1500)]
ARMS = {"fedavg", "centralised", *(f"local-{site}" for site in SITES)}
STUDY = f"""
title: On Slurm
experiment: {TWO_SITES}
strategies: [fedavg]
seeds: [5]
regression: false
resources: {{cores: 1, memory: 1.5, hours: 0.5}}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a cluster of one node."""
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fedi2i[slurm]'")
    skip_without_slurm()
    with one_node_slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield {**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """The command, from any folder: the jobs get whole paths."""
    command = [sys.executable, "-m", "fedi2i", "study", "study.yaml", "--data", "data"]
    return subprocess.Popen(
        [*command, "--out", "out", "--launcher", "slurm"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def when(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_an_arm_that_is_killed_in_the_middle_is_ended_by_the_same_command(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Faster: ``tests/jobs/launching/test_parts.py`` and, of Slurm, ``test_one_node_slurm.py``."""
    write_tiny_cohort(tmp_path / "data", (*SITES, UNSEEN))
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    run = tmp_path / "out" / "seed-5"
    log, finished = run / "logs" / "fedavg.log", run / "finished"
    with start(tmp_path, environment) as command:
        when(lambda: log.exists() and "global model after 1 round" in log.read_text())
        jobs = json.loads((tmp_path / "out" / "launched" / "jobs.json").read_text())
        assert set(jobs) == {f"seed-5/{arm}" for arm in ARMS}
        job = jobs["seed-5/fedavg"]
        killed = ["scancel", "--signal=KILL", "--full", job]
        subprocess.run(killed, env=environment, check=True)
        said, _ = command.communicate(timeout=900)
    assert command.returncode == 2, said
    assert "1 of 4 jobs did not finish; the same command takes them up again" in said
    # The job may still tell that the simulator was killed, or be gone before it can.
    assert "seed-5/fedavg: " in said
    assert "fedavg.log" in said
    records = {path.stem: path.stat().st_mtime_ns for path in finished.glob("*.json")}
    assert set(records) == ARMS - {"fedavg"}
    with start(tmp_path, environment) as command:
        said, _ = command.communicate(timeout=900)
    assert command.returncode == 0, said
    assert "continuing an interrupted" in log.read_text()
    again = {path.stem: path.stat().st_mtime_ns for path in finished.glob("*.json")}
    assert {name: again[name] for name in records} == records
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert {arm["name"] for arm in record["arms"]} > ARMS
    results = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in results[1:]} == {"5"}
