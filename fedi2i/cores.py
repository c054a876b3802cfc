"""How many processor cores this process may use, and a stretch in which torch uses one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


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


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Compute with one thread.

    Sums then depend on no number of threads, and processes that work beside each other do not
    compete within themselves.
    """
    # Imported here, as most that asks for cores never needs torch.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
