"""The parts of comparisons as jobs: the arms of all seeds as one array, then the evaluations."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.running.arm_process import ArmFailedError
from jobs.running.comparison import Comparison, run_part, stages
from jobs.running.launching.cluster import Cluster
from jobs.running.launching.launch import SECONDS_BETWEEN_QUESTIONS, launch
from jobs.running.launching.resources import Resources

FOLDER = "launched"
"""In the folder of the study or the comparison: what was handed over, and what the jobs said."""
_SECONDS_FOR_FILES = 10
"""After its end a job's files may take so long to be seen on another machine."""


@dataclass(frozen=True)
class PartJob:
    """One part of a comparison.

    Attributes:
        comparison: with whole paths, as the job may start in any folder.
        part: an arm, or the evaluation.
    """

    comparison: Comparison
    part: str

    @property
    def name(self) -> str:
        """The run folder's name and the part's."""
        return f"{self.comparison.out.name}/{self.part}"

    def __call__(self) -> None:
        """Run the part unless it has been run."""
        run_part(self.comparison, self.part)


def launch_comparisons(
    comparisons: Sequence[Comparison],
    launcher: str,
    out: Path,
    resources: Resources,
    at_once: int | None = None,
    seconds: float = SECONDS_BETWEEN_QUESTIONS,
) -> None:
    """Run what is not finished of comparisons, every part as a job.

    Args:
        comparisons: with whole paths.
        launcher: ``local`` or ``slurm``.
        out: folder that all machines see; its subfolder ``launched`` receives the jobs' logs.
        resources: of one job.
        at_once: most jobs at the same time.
        seconds: between two questions to the cluster.

    Raises:
        UserError: data or settings that cannot be used, a cluster that takes no job, or jobs that
            were lost or failed, each named. The same command takes them up again.
    """
    cluster = Cluster(launcher, out / FOLDER, resources, at_once)
    for stage in range(len(stages(comparisons[0]))):
        jobs = _unfinished(comparisons, stage)
        if not jobs:
            continue
        called = launch(jobs, cluster, _say, seconds)
        if left := _not_finished_in_time(comparisons, stage):
            said = [f"{job.name}: {cluster.sentence(called[job.name])}" for job in left]
            raise ArmFailedError(
                f"{len(left)} of {len(jobs)} jobs did not finish; the same command takes them up "
                f"again. {'; '.join(said)}"
            )


def _unfinished(comparisons: Sequence[Comparison], stage: int) -> list[PartJob]:
    return [
        PartJob(comparison, part)
        for comparison in comparisons
        for part, finished in stages(comparison)[stage].items()
        if not finished
    ]


def _not_finished_in_time(comparisons: Sequence[Comparison], stage: int) -> list[PartJob]:
    """Shared folders show a file of another machine after a while."""
    for _ in range(_SECONDS_FOR_FILES):
        if not _unfinished(comparisons, stage):
            return []
        time.sleep(1)
    return _unfinished(comparisons, stage)


def _say(text: str) -> None:
    print(f"[jobs] {text}", flush=True)
