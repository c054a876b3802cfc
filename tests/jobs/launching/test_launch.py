"""Jobs as processes of this machine: the same code as on a cluster."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fedi2i.cores import available_cores
from fedi2i.errors import ConfigError
from fedi2i.typed_config import check_values
from jobs.running.launching import cluster as clusters
from jobs.running.launching import launch as launching
from jobs.running.launching.cluster import Cluster
from jobs.running.launching.launch import launch
from jobs.running.launching.resources import Resources

ONE_CORE = Resources(cores=1)


def local_jobs(folder: Path, *names: str) -> list[Any]:
    """Jobs that note when they ran; 'failing' says why it fails, 'killed' ends without a word.

    The class is local, so that it travels with the job: a job finds no module of the tests.
    """

    class Noted:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self) -> None:
            import os
            import time

            from fedi2i.errors import DataError

            begun = time.time()
            if self.name == "failing":
                raise DataError("north: no patients")
            if self.name == "killed":
                os.kill(os.getpid(), 9)
            time.sleep(0.3)
            (folder / self.name).write_text(f"{begun} {time.time()}")

    return [Noted(name) for name in names]


def spans(folder: Path, *names: str) -> list[tuple[float, ...]]:
    """When each job ran."""
    return [tuple(map(float, (folder / name).read_text().split())) for name in names]


@pytest.fixture
def submitit() -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'fedi2i[slurm]'")


def test_no_more_jobs_run_at_the_same_time_than_was_asked_for(
    submitit: None, tmp_path: Path
) -> None:
    names, said = ("a", "b", "c"), []
    here = Cluster("local", tmp_path / "launched", ONE_CORE, 1)
    called = launch(local_jobs(tmp_path, *names), here, said.append, 0.05)
    assert set(called) == set(names)
    ordered = sorted(spans(tmp_path, *names))
    assert all(one[1] <= next_[0] for one, next_ in pairwise(ordered))
    assert "3 of 3" in said[-1]


def test_a_job_that_fails_or_is_killed_leaves_the_others_alone_and_is_explained(
    submitit: None, tmp_path: Path
) -> None:
    here = Cluster("local", tmp_path / "launched", ONE_CORE, 3)
    jobs = local_jobs(tmp_path, "failing", "a", "killed")
    called = launch(jobs, here, lambda line: None, 0.05)
    assert (tmp_path / "a").exists()
    assert here.sentence(called["failing"]) == "north: no patients"
    assert here.sentence(called["killed"]).startswith("lost or stopped; its log: ")
    assert str(tmp_path / "launched") in here.sentence(called["killed"])


def test_by_default_this_machine_runs_as_many_jobs_as_have_their_cores(
    submitit: None, tmp_path: Path
) -> None:
    assert Cluster("local", tmp_path, ONE_CORE, None).width == available_cores()
    assert Cluster("local", tmp_path, Resources(cores=4096), None).width == 1


def test_a_folder_in_which_no_process_can_start_is_explained_without_a_word_of_slurm(
    submitit: None, tmp_path: Path
) -> None:
    here = Cluster("local", tmp_path / "launched", ONE_CORE, 1)
    shutil.rmtree(tmp_path / "launched", ignore_errors=True)
    (tmp_path / "launched").write_text("a file")
    with pytest.raises(ConfigError, match=r"no process could be started .*launched") as refused:
        here.submit(local_jobs(tmp_path, "a"))
    assert "Slurm" not in str(refused.value)


def test_a_launcher_without_its_package_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"submitit: pip install 'fedi2i\[slurm\]'"):
        Cluster("local", tmp_path, ONE_CORE, None)


def test_a_machine_without_slurm_s_commands_says_where_to_go(
    submitit: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no Slurm commands"):
        Cluster("slurm", tmp_path / "launched", ONE_CORE, None)


def slurm_that_answers(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]
) -> Callable[[], set[str]]:
    monkeypatch.setattr(clusters.subprocess, "run", answer)
    cluster = Cluster.__new__(Cluster)
    cluster.launcher = "slurm"
    return lambda: cluster.alive({"7_0", "7_1", "8"})


def test_a_job_that_slurm_does_not_list_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = subprocess.CompletedProcess([], 0, stdout="7_1\n12\n")
    assert slurm_that_answers(monkeypatch, lambda *a, **k: listed)() == {"7_1"}


def test_a_slurm_that_does_not_answer_has_lost_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*arguments: Any, **options: Any) -> None:
        raise subprocess.TimeoutExpired("squeue", 60)

    assert slurm_that_answers(monkeypatch, silent)() == {"7_0", "7_1", "8"}


def test_the_remaining_time_follows_from_the_jobs_that_have_ended() -> None:
    line = launching._progress("seed-1/fedavg", 2, 6, time.perf_counter() - 600)
    assert line == "seed-1/fedavg has ended, 2 of 6; about 20 minutes left"


def test_a_job_of_slurm_counts_the_cores_that_it_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everything = available_cores()
    for asked, counted in (("1", 1), ("4096", everything), ("", everything), ("x", everything)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", asked)
        assert available_cores() == counted


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (Resources(cores=0), "resources.cores is 0; it must be from 1 to 4,096"),
        (Resources(memory=0), "resources.memory is 0; it must be above 0"),
        (Resources(hours=0), "resources.hours is 0; it must be above 0"),
        (Resources(gpus=-1), "resources.gpus is -1"),
    ],
)
def test_resources_that_make_no_sense_are_named(wrong: Resources, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_values(wrong, "study.yaml", "resources.")


def test_part_of_an_hour_is_a_whole_minute_at_least() -> None:
    assert Resources(hours=0.001).minutes == 1
    assert Resources(hours=1.5).minutes == 90
