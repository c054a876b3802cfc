"""A model that the server was given, to be measured: the right one, or a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nvflare.apis.dxo import DXO
from nvflare_fakes import Engine

from app_custom.participant.site_configuration import FILE_NAME
from app_custom.server.given_model import GivenModel, given_translator
from fedi2i.errors import ConfigError, DataError
from fedi2i.typed_config import merged, read_yaml
from jobs.writing.evaluation_job import evaluation_of
from jobs.writing.federation import FederatedExperiment
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.networks.building import build_networks
from lightning_modules.sharing.local_parts import sharing_scope
from lightning_modules.translation.model_card import card_of, training_record
from lightning_modules.translation.model_file import ModelFile, write_model

TINY = read_yaml(Path(__file__).parents[2] / "experiments" / "tiny.yaml")["experiment"]
EXPERIMENT = evaluation_of(FederatedExperiment(experiment=experiment_from(TINY, "test"))).experiment


@pytest.fixture
def given(tmp_path: Path) -> Path:
    weights = build_networks(EXPERIMENT.model, 5)["generator"].state_dict()
    record = training_record(EXPERIMENT, "tiny", [], "final", 2)
    model = ModelFile(card_of(EXPERIMENT, record), dict(weights))
    return write_model(tmp_path / "model.safetensors", model)


def test_what_is_sent_is_the_translator_under_the_names_that_sites_expect(given: Path) -> None:
    networks = build_networks(EXPERIMENT.model, 5).state_dict()
    expected = sharing_scope(EXPERIMENT).select(dict(networks))
    found = given_translator(given, EXPERIMENT)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_state_dict_that_a_run_left_does_as_well(tmp_path: Path) -> None:
    networks = build_networks(EXPERIMENT.model, 5).state_dict()
    torch.save({"model": networks}, tmp_path / "FL_global_model.pt")
    found = given_translator(tmp_path / "FL_global_model.pt", EXPERIMENT)
    assert all(torch.equal(found[key], networks[key]) for key in found)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data": {"preparation": {"target": "flair"}}}, "a model of another task: 'target'"),
        ({"data": {"preparation": {"spacing": 2.0}}}, "'spacing' of its preparation is 1.5"),
        ({"data": {"preparation": {"percentiles": [5.0, 60.0]}}}, "'percentiles' of its"),
        ({"data": {"preparation": {"bias_correction": "n4"}}}, "'bias_correction' of its"),
        ({"data": {"preparation": {"min_mask_fraction": 0.3}}}, "'min_mask_fraction' of its"),
        ({"model": {"generator": {"channels": [8, 32]}}}, "has another generator"),
    ],
)
def test_a_model_of_another_task_is_refused(
    given: Path, change: dict[str, object], expected: str
) -> None:
    other = experiment_from(merged(TINY, change), "test")
    with pytest.raises(ConfigError, match=expected):
        given_translator(given, other)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such model file"):
        given_translator(tmp_path / "none.pt", EXPERIMENT)


def _located(root: Path, models: str) -> tuple[DXO | None, list[str]]:
    (root / "local").mkdir()
    (root / "local" / FILE_NAME).write_text(models, encoding="utf-8")
    engine = Engine(root)
    locator = GivenModel(experiment_values(EXPERIMENT))
    ctx = engine.new_context()
    (name,) = locator.get_model_names(ctx)
    return locator.locate_model(name, ctx), engine.panics()


def test_the_server_s_own_file_says_where_the_model_is(given: Path, tmp_path: Path) -> None:
    sent, panics = _located(tmp_path, f"models: {{given: {given}}}\n")
    assert sent is not None and panics == []
    assert {key.partition(".")[0] for key in sent.data} == {"generator"}


def test_a_server_that_was_given_none_ends_the_job_with_a_sentence(tmp_path: Path) -> None:
    sent, panics = _located(tmp_path, "models: {}\n")
    assert sent is None
    assert panics == [f"server: no model 'given' under 'models' in {FILE_NAME}; none is listed"]
