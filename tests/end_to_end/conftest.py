"""Runs that several end-to-end tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from simulator_runs import SimulatorRun, export, prepared_workspace, simulate


@pytest.fixture(scope="session")
def tiny_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rounds of forty steps at four sites."""
    folder = tmp_path_factory.mktemp("jobs") / "fedavg"
    return export(folder, "--rounds", "3", "--steps", "40")


@pytest.fixture(scope="session")
def new_workspace(
    tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Makes prepared workspaces by name."""
    return lambda name: prepared_workspace(tmp_path_factory.mktemp(name) / "ws", tiny_cohort)


@pytest.fixture(scope="session")
def finished_run(tiny_job: Path, new_workspace: Callable[[str], Path]) -> SimulatorRun:
    """One undisturbed run with four sites at a time; shared by many tests."""
    return simulate(tiny_job, new_workspace("finished"), "-t", "4")
