"""Jobs on a real Slurm of one node; skipped where its packages are missing."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from one_node_slurm import one_node_slurm, skip_without_slurm

from fedi2i.errors import ConfigError
from jobs.running.launching.cluster import Cluster
from jobs.running.launching.launch import launch
from jobs.running.launching.resources import Resources

pytestmark = pytest.mark.timeout(240)
pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fedi2i[slurm]'")
SMALL = Resources(cores=1, memory=0.1, hours=0.1)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster of one node, which this process and its children use."""
    skip_without_slurm()
    with (
        one_node_slurm(tmp_path_factory.mktemp("slurm")) as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for key in ("PATH", "SLURM_CONF"):
            patch.setenv(key, environment[key])
        yield


def jobs_that_write(folder: Path, names: tuple[str, ...]) -> list[Any]:
    """Jobs that note their cores and leave a file; 'stuck' waits until it is run once more.

    The class is local, so that it travels with the job: a job finds no module of the tests.
    """

    class Writes:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self) -> None:
            import os
            import time

            begun = folder / f"{self.name}.begun"
            with begun.open("a") as stream:
                stream.write(f"{os.environ['SLURM_CPUS_PER_TASK']}\n")
            while self.name == "stuck" and len(begun.read_text().splitlines()) == 1:
                time.sleep(0.1)
            (folder / self.name).write_text("done")

    return [Writes(name) for name in names]


def unfinished(jobs: list[Any], folder: Path) -> list[Any]:
    return [job for job in jobs if not (folder / job.name).exists()]


def when(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def in_queue() -> list[str]:
    asked = ["squeue", "--noheader", "--array", "--format=%i"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()


def test_a_job_that_is_killed_is_seen_to_be_lost_and_the_next_command_runs_it_alone(
    slurm: None, tmp_path: Path
) -> None:
    jobs = jobs_that_write(tmp_path, ("a", "stuck", "b"))
    said: list[str] = []
    cluster = Cluster("slurm", tmp_path / "launched", SMALL, None)
    command = threading.Thread(target=launch, args=(jobs, cluster, said.append, 0.2))
    command.start()
    when(lambda: (tmp_path / "stuck.begun").exists() and (tmp_path / "b").exists())
    # The very process is killed, as by a lack of memory: nobody writes a result.
    when(lambda: len(in_queue()) == 1)
    (stuck,) = in_queue()
    subprocess.run(["scancel", "--signal=KILL", "--full", stuck], check=True)
    command.join(timeout=60)
    assert not command.is_alive()
    assert sum("has ended" in line for line in said) == 3
    (left,) = unfinished(jobs, tmp_path)
    assert left.name == "stuck"
    launch([left], Cluster("slurm", tmp_path / "launched", SMALL, None), said.append, 0.2)
    assert unfinished(jobs, tmp_path) == []
    begun = {job.name: (tmp_path / f"{job.name}.begun").read_text().split() for job in jobs}
    assert begun == {"a": ["1"], "stuck": ["1", "1"], "b": ["1"]}


def test_jobs_that_slurm_still_has_are_waited_for_and_not_handed_over_again(
    slurm: None, tmp_path: Path
) -> None:
    jobs = jobs_that_write(tmp_path, ("stuck", "a"))
    first = Cluster("slurm", tmp_path / "launched", SMALL, None)
    # The command that handed them over is gone; its jobs are not.
    command = threading.Thread(target=launch, args=(jobs, first, lambda line: None, 0.2))
    command.start()
    when(lambda: (tmp_path / "stuck.begun").exists())
    said: list[str] = []
    second = Cluster("slurm", tmp_path / "launched", SMALL, None)
    again = threading.Thread(
        target=launch, args=(unfinished(jobs, tmp_path), second, said.append, 0.2)
    )
    again.start()
    when(lambda: bool(said))
    with (tmp_path / "stuck.begun").open("a") as stream:  # and now it may go on
        stream.write("now\n")
    for thread in (command, again):
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert "of an earlier command are still there" in said[0]
    assert not any("handed over" in line for line in said)
    assert unfinished(jobs, tmp_path) == []


def test_what_the_cluster_refuses_is_one_sentence(slurm: None, tmp_path: Path) -> None:
    elsewhere = Resources(cores=1, memory=0.1, partition="nowhere")
    with pytest.raises(ConfigError, match=r"Slurm took no job: .* 'resources' in the study's file"):
        launch(
            jobs_that_write(tmp_path, ("a",)),
            Cluster("slurm", tmp_path / "launched", elsewhere, None),
            lambda line: None,
            0.2,
        )
