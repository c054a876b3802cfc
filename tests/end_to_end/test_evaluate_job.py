"""The job that trains nothing: a given model measured at sites, also at one that never trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from simulator_runs import SITES, TWO_SITES, SimulatorRun, export, simulate

from jobs.writing.federation import read_federated_experiment
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.evaluation.validation import validate
from lightning_modules.networks.building import build_networks
from lightning_modules.training.hardware import Hardware
from lightning_modules.translation.model_card import card_of, training_record
from lightning_modules.translation.model_file import (
    ModelFile,
    build_network,
    read_model,
    write_model,
)
from partitions.manifest import read_manifest
from partitions.preparation import prepare_site

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1200)]

ASKED = (*SITES, "island")
"""The last one is no site of the training."""


@pytest.fixture(scope="module")
def experiment() -> ExperimentConfig:
    return read_federated_experiment(TWO_SITES).experiment


@pytest.fixture(scope="module")
def given(experiment: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = build_networks(experiment.model, 77)["generator"].state_dict()
    record = training_record(experiment, "given", [], "final", 1)
    folder = tmp_path_factory.mktemp("given")
    return write_model(
        folder / "model.safetensors", ModelFile(card_of(experiment, record), dict(weights))
    )


@pytest.fixture(scope="module")
def run(
    given: Path, new_workspace: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> SimulatorRun:
    folder = tmp_path_factory.mktemp("evaluate")
    job = export(
        folder / "evaluate", "--sites", ",".join(ASKED), strategy="evaluate", experiment=TWO_SITES
    )
    workspace = new_workspace("evaluate")
    path = workspace / "local" / "fedi2i.yaml"
    own = OmegaConf.load(path)
    own.models = {"given": str(given)}
    own.keep_models = f"{folder}/kept/{{site}}"
    OmegaConf.save(own, path)
    finished = simulate(job, workspace, "-t", "3")
    assert finished.exit_code == 0, finished.output[-3000:]
    return finished


def test_every_site_measures_the_model_as_it_does_without_nvflare(
    run: SimulatorRun, given: Path, experiment: ExperimentConfig, tiny_cohort: Path
) -> None:
    """Faster: ``tests/app_custom/server/test_given_model.py`` and the job's folder."""
    model = read_model(given)
    network = build_network(model.card, model.weights)
    for site in ASKED:
        folder = tiny_cohort / site
        prepared = prepare_site(
            read_manifest(folder), experiment.data.preparation, folder / "prepared", progress=False
        )
        expected = validate(network, prepared.split("val"), Hardware("cpu", "32-true", 1))
        assert run.metrics[site, 0, "val/psnr"] == pytest.approx(expected["val/psnr"], abs=1e-3)
    assert not [metric for _, _, metric in run.metrics if metric.startswith("train/")]


def test_no_site_keeps_a_model_that_it_did_not_train(run: SimulatorRun) -> None:
    """Faster: ``tests/app_custom/executor/test_translation_executor.py``."""
    own = OmegaConf.load(run.workspace / "local/fedi2i.yaml").keep_models
    assert list(Path(own.replace("/{site}", "")).rglob("*.safetensors")) == []
