"""Jobs of a Slurm cluster, or processes of this machine, by one library: submitit."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fedi2i.cores import available_cores
from fedi2i.errors import ConfigError, UserError
from jobs.running.launching.resources import Resources

LOCAL, SLURM = LAUNCHERS = ("local", "slurm")
MOST_AT_ONCE = 256
_ERROR = "error: "


class Job(Protocol):
    """A piece of work that another process can do.

    What it is called tells it from all others; whether it is finished is known from its files.
    """

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def __call__(self) -> None:
        """Do it."""
        ...


class Cluster:
    """Where jobs run: they are handed over, and asked whether they are still there.

    Slurm is asked which jobs it has (``squeue``), which every cluster answers. submitit itself
    would ask the accounting (``sacct``) and, where there is none, wait for a lost job for ever.

    Args:
        launcher: ``local`` or ``slurm``.
        folder: of the jobs' logs; every machine of the cluster sees it.
        resources: of one job.
        at_once: most jobs at the same time; by default as many as the cluster gives, or as the
            cores of this machine allow.

    Raises:
        ConfigError: submitit is not installed, or Slurm's commands are not.
    """

    def __init__(
        self, launcher: str, folder: Path, resources: Resources, at_once: int | None
    ) -> None:
        self.folder = folder
        self.launcher = launcher
        fitting = max(1, available_cores() // resources.cores) if launcher == LOCAL else None
        self._at_once = at_once or fitting or MOST_AT_ONCE
        self._submitit = _submitit()
        self._executor = self._executor_for(resources)
        self._handed: dict[str, Any] = {}

    @property
    def width(self) -> int | None:
        """Most jobs to hand over at the same time; None where the cluster itself lets them wait."""
        return self._at_once if self.launcher == LOCAL else None

    def submit(self, jobs: Sequence[Job]) -> list[str]:
        """Hand jobs over, several of them as one array; returns what the cluster calls them.

        Raises:
            ConfigError: the cluster refuses them.
        """
        try:
            with self._executor.batch():
                handed = [self._executor.submit(_Restartable(job)) for job in jobs]
        except (self._submitit.core.utils.FailedJobError, OSError) as error:
            said = " ".join(str(error).split())[-400:]
            if self.launcher == LOCAL:
                raise ConfigError(f"no process could be started for an arm: {said}") from error
            raise ConfigError(
                f"Slurm took no job: {said}; look at 'resources' in the study's file"
            ) from error
        self._handed |= {job.job_id: job for job in handed}
        return [job.job_id for job in handed]

    def alive(self, called: Collection[str]) -> set[str]:
        """Which of these jobs wait or run. A Slurm that does not answer leaves all as they were."""
        if self.launcher == LOCAL:
            return {one for one in called if one in self._handed and not self._handed[one].done()}
        command = ("squeue", "--me", "--noheader", "--array", "--format=%i")
        try:
            listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            return set(called)
        return set(called) & set(listed.stdout.split())

    def sentence(self, called: str) -> str:
        """What a job that has ended said of its failure, and where its log is."""
        paths = self._submitit.core.utils.JobPaths(self.folder, called, 0)
        try:
            lines = paths.stdout.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        said = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
        return said[-1] if said else f"lost or stopped; its log: {paths.stdout}"

    def _executor_for(self, resources: Resources) -> Any:
        try:
            executor = self._submitit.AutoExecutor(folder=self.folder, cluster=self.launcher)
        except RuntimeError as error:
            raise ConfigError(
                "--launcher slurm: no Slurm commands (srun, sbatch, squeue) on this machine; go to "
                "a login node of the cluster, or take --launcher local"
            ) from error
        asked: dict[str, Any] = {"slurm_partition": resources.partition or None}
        asked["slurm_account"] = resources.account or None
        executor.update_parameters(
            name="fedi2i",
            timeout_min=resources.minutes,
            cpus_per_task=resources.cores,
            mem_gb=resources.memory,
            slurm_array_parallelism=self._at_once,
            # srun of Slurm 22.05 and later no longer takes the number of cores from the job.
            slurm_srun_args=[f"--cpus-per-task={resources.cores}"],
            **({"gpus_per_node": resources.gpus} if resources.gpus else {}),
            **{key: value for key, value in asked.items() if value is not None},
        )
        return executor


@dataclass(frozen=True)
class _Restartable:
    """A job as submitit runs it: stopped for its time or for another's, it is put in line again."""

    job: Job

    def __call__(self) -> None:
        try:
            self.job()
        except UserError as error:
            print(f"{_ERROR}{error}", flush=True)
            raise

    def checkpoint(self) -> Any:
        """What is run after an interruption: the same, which goes on where it was."""
        return _submitit().helpers.DelayedSubmission(self)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(
            "--launcher needs the package submitit: pip install 'fedi2i[slurm]', or "
            "pip install -r requirements-extras.txt"
        ) from error
    # It warns of accounting that a cluster does not have, which nothing here asks.
    logging.getLogger("submitit").setLevel(logging.ERROR)
    return submitit
