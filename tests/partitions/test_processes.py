"""Work in several processes: all results, errors as they are, and a process that is ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fedi2i.errors import DataError
from partitions.processes import side_by_side

# The work is a function of Python's own library, which a fresh process imports at once.


def test_one_worker_does_the_work_in_this_process() -> None:
    assert set(side_by_side(_process_of, ["a", "b"], workers=1)) == {os.getpid()}


def test_two_workers_do_all_the_work() -> None:
    found = list(side_by_side(Path.exists, [Path(__file__), Path("gone"), Path("gone too")], 2))
    assert sorted(found) == [False, False, True]


def test_an_error_of_the_work_is_raised_as_it_is() -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        list(side_by_side(Path.read_text, [Path("gone"), Path("gone")], workers=2))


def test_a_process_that_is_ended_from_outside_is_one_sentence() -> None:
    with pytest.raises(
        DataError, match="a process was ended from outside, probably because memory ran out"
    ):
        list(side_by_side(signal.raise_signal, [signal.SIGKILL, signal.SIGKILL], workers=2))


def _process_of(_: str) -> int:
    return os.getpid()
