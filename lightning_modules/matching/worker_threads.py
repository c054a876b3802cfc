"""Threads for matching sites in parallel, each computing on one core."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def worker_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads in which torch computes with one thread each.

    Sites are the parallel unit: matrix products and the Hungarian method release Python's lock,
    and threads below them would compete for the same cores. torch keeps the number of threads per
    calling thread, so the caller's own stays as it is; what new threads start with is put back
    at the end.
    """
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, "matching", torch.set_num_threads, (1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)
