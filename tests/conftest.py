"""Fixtures for all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_cohort import write_tiny_cohort
from xdist.scheduler import LoadFileScheduling

from partitions.own_code import allow

REPOSITORY = Path(__file__).resolve().parents[1]

LONGEST_FIRST = (
    "provision/one_federation/test_who_may_do_what.py",
    "provision/one_federation/test_refused_submissions.py",
    "provision/one_federation/test_jobs_beside_each_other.py",
    "provision/one_federation/test_lost_sites.py",
    "provision/one_federation/test_runs_that_go_on.py",
    "provision/one_federation/test_what_is_left_behind.py",
    "end_to_end/test_comparison_run.py",
    "end_to_end",
)
"""These take longest, and mostly wait for processes. Where several files run at a time they must
not come last: one worker would be busy with them while the others have nothing left to do. The
files of the one federation stand in the order of its life."""

ON_ONE_WORKER = ("provision/one_federation/",)
"""The files of such a folder share what one worker has started."""


class FilesTogether(LoadFileScheduling):
    """Gives whole files to workers, and the files of some folders all to one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((folder for folder in ON_ONE_WORKER if folder in file), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether | None:
    """Schedule by file where that is asked for; pytest-xdist's own groups of marked tests are not
    seen by this release of pytest.
    """
    return FilesTogether(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; the order within a file stays."""
    items.sort(key=lambda item: _place(_file_of(item)))


def _file_of(item: pytest.Item) -> str:
    return item.path.relative_to(REPOSITORY / "tests").as_posix()


def _place(file: str) -> int:
    places = (n for n, name in enumerate(LONGEST_FIRST) if file.startswith(name))
    return next(places, len(LONGEST_FIRST))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Small real scans; they are not part of the project and tests skip without them."""
    named = os.environ.get("FEDI2I_SHARED_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real scans at {folder}; set FEDI2I_SHARED_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny federation's folder, one folder per site; shared by all tests, so do not edit it."""
    return write_tiny_cohort(tmp_path_factory.mktemp("tiny_cohort"))


LAB = REPOSITORY / "tests" / "lab_package"
"""Holds the package of a lab; no other test has it on its path."""


@pytest.fixture
def allow_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has the lab's package installed, with nothing of it allowed; allows one dotted path."""
    monkeypatch.syspath_prepend(str(LAB))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setenv("FEDI2I_OWN_CODE", str(tmp_path / "lab-list" / "own-code.yaml"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        monkeypatch.delitem(sys.modules, name)

    def allow_one(dotted: str) -> None:
        allow(dotted)

    return allow_one
