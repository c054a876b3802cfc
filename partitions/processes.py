"""Do independent pieces of work side by side, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from fedi2i.errors import DataError

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Piece], Result], pieces: Sequence[Piece], workers: int
) -> Iterator[Result]:
    """Yield the results as they are finished, in any order.

    One piece, or one worker, is done in this process. Processes are started afresh and not forked,
    because PyTorch's threads do not survive a fork.

    Args:
        work: a function that a fresh process can import.
        pieces: its arguments.
        workers: processes at a time, at least 1.

    Raises:
        DataError: a process was ended from outside. An error of ``work`` is raised as it is; what
            has not begun by then is not done.
    """
    if min(workers, len(pieces)) < 2:
        yield from map(work, pieces)
        return
    with _pool(min(workers, len(pieces))) as pool:
        for future in as_completed([pool.submit(work, piece) for piece in pieces]):
            yield future.result()


def in_order(
    work: Callable[[Piece], Result], pieces: Iterable[Piece], workers: int
) -> Iterator[Result]:
    """Yield the results in the order of their pieces, which this process goes on to make meanwhile.

    See ``side_by_side`` for the processes. With one worker all is done in this process, a piece at
    a time; else at most one piece more than there are workers waits in memory.

    Args:
        work: a function that a fresh process can import.
        pieces: its arguments, made one after the other.
        workers: processes at a time, at least 1.

    Raises:
        DataError: a process was ended from outside.
    """
    if workers < 2:
        yield from map(work, pieces)
        return
    waiting: deque[Future[Result]] = deque()
    with _pool(workers) as pool:
        for piece in pieces:
            waiting.append(pool.submit(work, piece))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes; what has not begun when the stretch is left is not done."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_quietly)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise DataError(
            "a process was ended from outside, probably because memory ran out; start the same "
            "command again, with fewer --workers or --threads if it has that option: what is "
            "finished is kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_quietly() -> None:
    """Ctrl-C reaches every process, and the first one says in a sentence that it stopped."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(1))
