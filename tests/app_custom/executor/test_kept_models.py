"""What a site keeps of a run's models, where its own file says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from app_custom.executor.kept_models import KeptModels
from fedi2i.errors import DataError
from fedi2i.typed_config import read_yaml
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.networks.building import build_networks
from lightning_modules.translation.model_file import build_network, read_model
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

TINY = read_yaml(Path(__file__).parents[2] / "experiments" / "tiny.yaml")["experiment"]


@pytest.fixture(scope="module")
def experiment() -> ExperimentConfig:
    return experiment_from(TINY, "test")


@pytest.fixture(scope="module")
def prepared(tiny_cohort: Path, experiment: ExperimentConfig) -> PreparedSite:
    config, folder = experiment.data.preparation, tiny_cohort / "north"
    return prepare_site(read_manifest(folder), config, folder / "prepared", progress=False)


@pytest.fixture
def kept(tmp_path: Path, experiment: ExperimentConfig, prepared: PreparedSite) -> KeptModels:
    return KeptModels(tmp_path / "tiny-0123", "tiny", experiment, prepared)


def _model(experiment: ExperimentConfig, seed: int) -> dict[str, Tensor]:
    return dict(build_networks(experiment.model, seed).state_dict())


def _psnr(value: float) -> dict[str, float]:
    return {"val/psnr": value, "time/validate_seconds": 1.0}


def test_the_best_and_the_final_model_are_kept_with_what_the_site_knows(
    kept: KeptModels, tmp_path: Path, experiment: ExperimentConfig, prepared: PreparedSite
) -> None:
    psnr = {0: 30.0, 1: 20.0, 2: 22.0, 3: 21.0}
    taken = [kept.keep_if_best(_model(experiment, r), r, _psnr(psnr[r])) for r in (0, 1, 2)]
    assert taken == [False, True, True]
    path = kept.keep_final(_model(experiment, 3), 3, _psnr(psnr[3]))
    assert path == tmp_path / "tiny-0123" / "final.safetensors"
    final, best = read_model(path), read_model(path.with_name("best.safetensors"))
    assert (final.card.training.rounds, best.card.training.rounds) == (3, 2)
    assert best.card.training.results == {"val/psnr": 22.0}
    assert final.card.training.data == {"north": prepared.content_hash}
    assert final.card.intensities is not None
    source = torch.rand(1, 1, 32, 32)
    for model, seed in ((final, 3), (best, 2)):
        drawn = build_networks(experiment.model, seed)["generator"].eval()
        with torch.inference_mode():
            assert torch.equal(build_network(model.card, model.weights)(source), drawn(source))


def test_a_run_that_is_started_anew_competes_with_itself_alone(
    kept: KeptModels, experiment: ExperimentConfig
) -> None:
    assert kept.keep_if_best(_model(experiment, 3), 3, _psnr(25.0))
    assert kept.keep_if_best(_model(experiment, 1), 1, _psnr(20.0))


def test_a_personal_model_is_compared_by_its_own_metric(
    kept: KeptModels, experiment: ExperimentConfig
) -> None:
    model = _model(experiment, 1)
    assert kept.keep_if_best(model, 1, {"val/psnr": 20.0, "personal/psnr": 25.0})
    assert not kept.keep_if_best(model, 2, {"val/psnr": 24.0, "personal/psnr": 23.0})


def test_without_metrics_the_final_model_alone_is_kept(
    kept: KeptModels, tmp_path: Path, experiment: ExperimentConfig
) -> None:
    kept.keep_if_best(_model(experiment, 1), 1, {})
    kept.keep_final(_model(experiment, 2), 2, {})
    assert {path.name for path in tmp_path.rglob("*.safetensors")} == {"final.safetensors"}


def test_a_kept_file_of_another_format_does_not_lock_the_site_out(
    kept: KeptModels, tmp_path: Path, experiment: ExperimentConfig
) -> None:
    kept.keep_if_best(_model(experiment, 1), 1, _psnr(25.0))
    path = tmp_path / "tiny-0123" / "best.safetensors"
    with safe_open(path, framework="pt") as file:
        card = json.loads(file.metadata()["fedi2i"])
    save_file(load_file(path), path, metadata={"fedi2i": json.dumps({**card, "format": 2})})
    assert kept.keep_if_best(_model(experiment, 2), 2, _psnr(20.0))
    assert read_model(path).card.training.rounds == 2


def test_what_tells_of_a_site_s_patients_is_for_its_own_account(
    kept: KeptModels, experiment: ExperimentConfig
) -> None:
    path = kept.keep_final(_model(experiment, 1), 1, {})
    found = [one.stat().st_mode & 0o777 for one in (path, path.with_suffix(".json"))]
    assert found == [0o600, 0o600]


def test_half_a_translator_is_refused(kept: KeptModels, experiment: ExperimentConfig) -> None:
    model = _model(experiment, 1)
    model.pop(next(key for key in model if key.startswith("generator.")))
    with pytest.raises(DataError, match="lacks a part"):
        kept.keep_final(model, 2, {})
