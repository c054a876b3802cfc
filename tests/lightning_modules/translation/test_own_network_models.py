"""A model file of a lab's own network is read only where its class is allowed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.networks.building import build_networks
from lightning_modules.translation.model_card import NetworkCode, card_of, training_record
from lightning_modules.translation.model_file import (
    ModelFile,
    build_network,
    read_card,
    read_model,
    write_model,
)
from partitions.own_code import package_digest

MINE = "my_lab.nets.MyGenerator"
Allow = Callable[[str], None]
MakeExperiment = Callable[..., ExperimentConfig]


@pytest.fixture
def experiment(make_experiment: MakeExperiment) -> ExperimentConfig:
    """The tiny one with the lab's generator; the tiny one's own channels give way."""
    generator: dict[str, Any] = {"path": MINE, "args": {"channels": 4}}
    return make_experiment(model={"generator": {**generator, "channels": [16, 32, 64, 128]}})


@pytest.fixture
def written(experiment: ExperimentConfig, allow_own: Allow, tmp_path: Path) -> Path:
    """A model that was written where its class was allowed."""
    allow_own(MINE)
    weights = build_networks(experiment.model, 1)["generator"].state_dict()
    card = card_of(experiment, training_record(experiment, "tiny", [], "final", 1))
    return write_model(tmp_path / "model.safetensors", ModelFile(card, weights))


def test_it_computes_the_same_where_its_class_is_allowed(
    written: Path, experiment: ExperimentConfig
) -> None:
    found = read_model(written)
    assert found.card.network.path == MINE
    assert found.card.network.digest == package_digest("my_lab")
    source = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        expected = build_networks(experiment.model, 1)["generator"].eval()(source)
        assert torch.equal(build_network(found.card, found.weights)(source), expected)


def test_a_module_s_translating_network_computes_the_same_where_its_class_is_allowed(
    make_experiment: MakeExperiment,
    allow_own: Allow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = "my_lab.modules.MyTranslation"
    allow_own(path)
    unset = {
        "generator": {"channels": [16, 32, 64, 128]},
        "discriminator": {"channels": 16, "layers": 3},
    }
    networks = ["generator", "discriminator"]
    module = {"path": path, "args": {"channels": 2}, "networks": networks}
    experiment = make_experiment(model={"name": "own", "module": module, **unset})
    built = build_networks(experiment.model, 1)["generator"].eval()
    card = card_of(experiment, training_record(experiment, "tiny", [], "final", 1))
    model = ModelFile(card, built.state_dict())
    written = write_model(tmp_path / "model.safetensors", model)
    found = read_model(written)
    assert found.card.network.path == path
    assert found.card.network.digest == package_digest("my_lab")
    assert found.card.network.generator.part == "generator"
    source = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(build_network(found.card, found.weights)(source), built(source))
    monkeypatch.setenv("FEDI2I_OWN_CODE", str(tmp_path / "nothing.yaml"))
    with pytest.raises(ConfigError, match="is not on this machine's list"):
        read_card(written)


def test_elsewhere_nothing_of_it_is_imported(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("FEDI2I_OWN_CODE", str(tmp_path / "nothing.yaml"))
    with pytest.raises(ConfigError, match=r"model.safetensors: '.*MyGenerator' is not on this m"):
        read_model(written)
    assert "my_lab" not in sys.modules


@pytest.mark.parametrize(
    ("path", "kind", "sentence"),
    [
        ("os.system", "os.system", "package 'os' has no files|not on this machine's list"),
        (MINE, "os.system", "is 'my_lab.nets.MyGenerator' and 'os.system' at the same time"),
        ("os.system", "unet", "is not one that this machine builds"),
        ("lightning_modules.networks.generators.unet", MINE, "at the same time"),
    ],
)
def test_a_card_names_no_other_callable(
    written: Path, tmp_path: Path, path: str, kind: str, sentence: str
) -> None:
    model = read_model(written)
    generator = replace(model.card.network.generator, kind="unet", path="", args=None)
    network = NetworkCode(path, "0" * 64, replace(generator, kind=kind))
    changed = write_model(
        tmp_path / "changed.safetensors", replace(model, card=replace(model.card, network=network))
    )
    with pytest.raises(ConfigError, match=sentence):
        read_card(changed)
