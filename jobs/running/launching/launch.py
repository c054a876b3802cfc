"""Hand jobs over, and wait until none of them is left: finished, failed or lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fedi2i.files import write_text
from jobs.running.launching.cluster import SLURM, Cluster, Job

JOBS_FILE = "jobs.json"
"""In the cluster's folder: by their names, what Slurm called the jobs handed over last."""
SECONDS_BETWEEN_QUESTIONS = 10.0


def launch(
    jobs: Sequence[Job],
    cluster: Cluster,
    say: Callable[[str], None],
    seconds: float = SECONDS_BETWEEN_QUESTIONS,
) -> dict[str, str]:
    """Run jobs, and return when none of them waits or runs any more.

    A job that an earlier command handed over and that Slurm still has is waited for, not handed
    over again. Interrupting the command leaves Slurm's jobs where they are.

    Args:
        jobs: not finished; each has a name of its own.
        cluster: where they run.
        say: takes lines of progress.
        seconds: between two questions to the cluster.

    Returns:
        What the cluster called each job, by its name. Whether it is finished its files say.

    Raises:
        ConfigError: the cluster takes no job.
    """
    called = _still_there(jobs, cluster)
    if called:
        say(f"{len(called)} jobs of an earlier command are still there; waiting for them")
    waiting = [job for job in jobs if job.name not in called]
    running, started = dict(called), time.perf_counter()
    while waiting or running:
        room = len(waiting) if cluster.width is None else max(0, cluster.width - len(running))
        batch, waiting = waiting[:room], waiting[room:]
        if batch:
            handed = dict(zip([job.name for job in batch], cluster.submit(batch), strict=True))
            running, called = running | handed, called | handed
            _remember(cluster, called)
            say(f"{len(batch)} jobs handed over to {cluster.launcher}; logs in {cluster.folder}")
        time.sleep(seconds)
        alive = cluster.alive(running.values())
        over = [name for name, one in running.items() if one not in alive]
        running = {name: one for name, one in running.items() if one in alive}
        for name in over:
            say(_progress(name, len(jobs) - len(waiting) - len(running), len(jobs), started))
    return called


def _progress(name: str, ended: int, jobs: int, started: float) -> str:
    left = (time.perf_counter() - started) / ended * (jobs - ended) / 60
    return f"{name} has ended, {ended} of {jobs}; about {left:.0f} minutes left"


def _still_there(jobs: Sequence[Job], cluster: Cluster) -> dict[str, str]:
    """The jobs that an earlier command handed over and that Slurm has not ended."""
    if cluster.launcher != SLURM:
        return {}
    wanted = {job.name for job in jobs}
    known = {name: one for name, one in _remembered(cluster).items() if name in wanted}
    alive = cluster.alive(known.values()) if known else set()
    return {name: one for name, one in known.items() if one in alive}


def _remember(cluster: Cluster, called: Mapping[str, str]) -> None:
    if cluster.launcher == SLURM:
        content = json.dumps({**_remembered(cluster), **called}, indent=1)
        write_text(cluster.folder / JOBS_FILE, f"{content}\n")


def _remembered(cluster: Cluster) -> dict[str, str]:
    path: Path = cluster.folder / JOBS_FILE
    with suppress(OSError, ValueError, AttributeError):  # missing or damaged: they are handed over
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(one) for name, one in content.items()}
    return {}
