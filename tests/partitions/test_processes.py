"""Work in several processes: all results, errors as they are, and a process that is ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedi2i.errors import DataError
from partitions.processes import in_order, side_by_side

# The work is a function of Python's own library where it can be: a fresh process imports it fast.


def test_one_worker_does_the_work_in_this_process() -> None:
    assert set(side_by_side(_process_of, ["a", "b"], workers=1)) == {os.getpid()}


def test_two_workers_do_all_the_work() -> None:
    found = list(side_by_side(Path.exists, [Path(__file__), Path("gone"), Path("gone too")], 2))
    assert sorted(found) == [False, False, True]


def test_an_error_of_the_work_is_raised_as_it_is() -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        list(side_by_side(Path.read_text, [Path("gone"), Path("gone")], workers=2))


def test_results_come_in_the_order_of_their_pieces_though_the_first_takes_longest() -> None:
    seconds = [0.3, 0.0, 0.1, 0.0]
    begun: list[float] = []

    def made() -> Iterator[float]:
        for piece in seconds:
            begun.append(piece)
            yield piece

    found = in_order(_slept, made(), workers=2)
    assert next(found) == 0.3
    assert len(begun) == 3  # one more than there are workers
    assert list(found) == seconds[1:]


def test_one_worker_makes_a_piece_when_the_one_before_is_done() -> None:
    begun: list[str] = []

    def made() -> Iterator[str]:
        for piece in ("a", "b"):
            begun.append(piece)
            yield piece

    found = in_order(_process_of, made(), workers=1)
    assert (next(found), begun) == (os.getpid(), ["a"])


def test_a_process_that_is_ended_while_the_next_piece_is_made_is_one_sentence() -> None:
    with pytest.raises(DataError, match="a process was ended from outside"):
        list(in_order(signal.raise_signal, iter([signal.SIGKILL] * 5), workers=2))


def test_a_process_that_is_ended_from_outside_is_one_sentence() -> None:
    with pytest.raises(
        DataError, match="a process was ended from outside, probably because memory ran out"
    ):
        list(side_by_side(signal.raise_signal, [signal.SIGKILL, signal.SIGKILL], workers=2))


def _process_of(_: str) -> int:
    return os.getpid()


def _slept(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
