"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny_cohort import write_tiny_cohort

REPOSITORY = Path(__file__).resolve().parents[1]


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
