"""Prepared sites of the tiny cohort, experiments that differ from tiny.yaml, and learners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedi2i.typed_config import merged, read_yaml
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"

MakeExperiment = Callable[..., ExperimentConfig]
MakeLearner = Callable[..., Learner]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def hardware() -> Hardware:
    """One thread, full precision."""
    return Hardware("cpu", "32-true", 1)


@pytest.fixture(scope="session")
def make_experiment() -> MakeExperiment:
    """The tiny experiment with some values changed."""

    def make(**changes: Any) -> ExperimentConfig:
        return experiment_from(merged(read_yaml(TINY)["experiment"], changes), "test")

    return make


@pytest.fixture(scope="session")
def sites(tiny_cohort: Path, make_experiment: MakeExperiment) -> dict[str, PreparedSite]:
    """Two prepared sites of the tiny cohort, by name."""
    config = make_experiment().data.preparation
    return {
        name: prepare_site(
            read_manifest(tiny_cohort / name),
            config,
            tiny_cohort / name / "prepared",
            progress=False,
        )
        for name in ("north", "east")
    }


@pytest.fixture
def make_learner(sites: dict[str, PreparedSite], hardware: Hardware, tmp_path: Path) -> MakeLearner:
    """A new learner of one site; learners with the same ``store`` share their kept state."""

    def make(experiment: ExperimentConfig, site: str = "north", store: str = "state") -> Learner:
        slices = TrainingSlices([sites[site].split("train")])
        return Learner(experiment, site, slices, hardware, LocalStateStore(tmp_path / store))

    return make
