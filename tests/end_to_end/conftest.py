"""Runs that several end-to-end tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from simulator_runs import (
    TWO_SITES,
    SimulatorRun,
    export,
    prepared_workspace,
    simulate,
    simulate_once,
)


@pytest.fixture(scope="session")
def tiny_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FedAvg, three rounds of eighty steps at two sites."""
    return export(tmp_path_factory.mktemp("jobs") / "fedavg", experiment=TWO_SITES)


@pytest.fixture(scope="session")
def new_workspace(
    tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Makes prepared workspaces by name."""
    return lambda name: prepared_workspace(tmp_path_factory.mktemp(name) / "ws", tiny_cohort)


@pytest.fixture(scope="session")
def finished_run(
    tiny_job: Path,
    tiny_cohort: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> SimulatorRun:
    """One undisturbed run with both sites at a time; the test processes share it."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return simulate_once(
        shared,
        "finished",
        lambda folder: simulate(
            tiny_job, prepared_workspace(folder / "ws", tiny_cohort), "-t", "2"
        ),
    )
