"""Federations of the tiny cohort in one process."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process_federation import InProcessFederation

from fedi2i.typed_config import merged, read_yaml
from lightning_modules.configuration import ExperimentConfig, experiment_from
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"

MakeFederation = Callable[..., InProcessFederation]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny_experiment(**changes: Any) -> ExperimentConfig:
    """The tiny experiment with some values changed."""
    return experiment_from(merged(read_yaml(TINY)["experiment"], changes), "test")


@pytest.fixture(scope="session")
def prepared_sites(tiny_cohort: Path) -> dict[str, PreparedSite]:
    """The four sites of the tiny cohort."""
    config = tiny_experiment().data.preparation
    return {
        name: prepare_site(
            read_manifest(tiny_cohort / name),
            config,
            tiny_cohort / name / "prepared",
            progress=False,
        )
        for name in ("east", "north", "south", "west")
    }


@pytest.fixture
def make_federation(
    prepared_sites: dict[str, PreparedSite], tmp_path: Path
) -> Callable[..., InProcessFederation]:
    """Makes federations of some sites (by default two), with values of the experiment changed."""
    numbers = count()

    def make(
        sites: tuple[str, ...] = ("east", "north"), folder: str | None = None, **changes: Any
    ) -> InProcessFederation:
        changes = merged({"training": {"steps": 4}}, changes)
        chosen = {site: prepared_sites[site] for site in sites}
        place = tmp_path / (folder or f"federation-{next(numbers)}")
        return InProcessFederation(tiny_experiment(**changes), chosen, place)

    return make
