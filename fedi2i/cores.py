"""How many processor cores this process may use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Cores this process may run on, at least 1.

    Inside a job of Slurm no more than the job has asked for: not every cluster binds its jobs.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(cores, max(1, int(granted))) if granted.isdecimal() else cores
