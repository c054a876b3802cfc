"""The file that a model is passed on in: whole, without pickle, built from allowed code alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fedi2i.errors import ConfigError, DataError, UserError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.translation.model_card import (
    ModelCard,
    SourceIntensities,
    card_of,
    training_record,
)
from lightning_modules.translation.model_file import (
    ModelFile,
    build_network,
    read_card,
    read_model,
    write_model,
)

MakeExperiment = Callable[..., ExperimentConfig]


@pytest.fixture
def model(make_experiment: MakeExperiment) -> ModelFile:
    """A drawn network, and two of earlier rounds."""
    experiment = make_experiment()
    drawn = [build_generator(experiment.model.generator).state_dict() for _ in range(3)]
    record = training_record(experiment, "tiny", [("all", 2, "val/psnr", 20.0)], "final", 2)
    card = card_of(experiment, record, SourceIntensities((0.5, 0.5, *[0.0] * 62), 0.1))
    return ModelFile(card, drawn[2], {1: drawn[1], 2: drawn[2]})


@pytest.fixture
def written(model: ModelFile, tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.safetensors", model)


def test_what_was_written_is_read_and_computes_the_same(model: ModelFile, written: Path) -> None:
    found = read_model(written)
    source = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        expected = build_network(model.card, model.weights)(source)
        assert torch.equal(build_network(found.card, found.weights)(source), expected)
    assert list(found.earlier) == [1, 2]
    assert torch.equal(build_network(found.card, found.earlier[2])(source), expected)
    assert found.card.preparation == model.card.preparation
    assert found.card.training == model.card.training
    assert found.card.intensities == model.card.intensities


def test_the_card_stands_beside_the_file_as_it_stands_inside(written: Path) -> None:
    with safe_open(written, framework="pt") as file:
        inside = json.loads(file.metadata()["fedi2i"])
    assert json.loads(written.with_suffix(".json").read_text()) == inside
    assert inside["preparation"]["source"] == "t1"
    assert inside["training"]["experiment"]["model"]["name"] == "pix2pix"
    assert "not for diagnosis" in inside["notice"]


def test_the_file_is_a_length_a_json_text_and_numbers_and_no_pickle(written: Path) -> None:
    content = written.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    numbers = sum(value.nbytes for value in load_file(written).values())
    assert len(content) == 8 + length + numbers
    assert header.pop("__metadata__").keys() == {"fedi2i"} and len(header) == 3 * 6


def _rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The same weights with another card."""
    with safe_open(path, framework="pt") as file:
        card = json.loads(file.metadata()["fedi2i"])
    change(card)
    save_file(load_file(path), path, metadata={"fedi2i": json.dumps(card)})
    return path


def _set(*keys: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(card: dict[str, Any]) -> None:
        for key in keys[:-1]:
            card = card[key]
        card[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_set("network", "path", value="os.system"), "'os.system' is not one that this machine"),
        (
            _set("network", "path", value="lightning_modules.networks.generators.resnet"),
            "is not one that this machine builds",
        ),
        (_set("network", "generator", "channels", value=[8, 5000]), "of 1 to 4096 channels"),
        (_set("network", "generator", "channels", value=[8, 8]), "do not fit the network"),
        (_set("network", "generator", "kind", value="unte"), "unte"),
        (_set("weights", value="0" * 64), "not those that its card was written for"),
        (_set("weighs", value=1), "unknown key 'weighs'; did you mean 'weights'?"),
        (_set("format", value=2), "of format 2, and this release reads 1"),
        (_set("training", "run", value="${oc.env:HOME}"), "holds a reference"),
        (_set("training", "run", value="\x1b[2K"), "holds control characters"),
        (_set("notice", value="\x1b[2K\rapproved"), "holds control characters"),
        (_set("preparation", "target", value="ct/../../escaped/ct"), "is no name of a sequence"),
        (_set("preparation", "source", value="$open('a', 'w')"), "is no name of a sequence"),
        (_set("intensities", value={}), "are not 64 shares and a spread"),
        (_set("intensities", value={"shares": [0.5, 0.5], "spread": 0.1}), "are not 64 shares"),
        (_set("intensities", "spread", value=float("nan")), "finite and not negative"),
        (_set("preparation", "size", value=[33, 32]), "must be divisible"),
    ],
)
def test_a_card_that_does_not_hold_is_refused_by_name(
    written: Path, change: Callable[[dict[str, Any]], None], expected: str
) -> None:
    with pytest.raises(UserError, match=r"model\.safetensors") as refused:
        read_model(_rewritten(written, change))
    assert expected in str(refused.value)


def _with_text(path: Path, text: str) -> Path:
    save_file(load_file(path), path, metadata={"fedi2i": text})
    return path


def test_a_reference_behind_escapes_is_refused_and_no_variable_is_read(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSPITAL_TOKEN", "secret-token")
    with safe_open(written, framework="pt") as file:
        text = file.metadata()["fedi2i"]
    escaped = text.replace('"tiny"', '"\\u0024{oc.env:HOSPITAL_TOKEN}"')
    assert "${" not in escaped and escaped != text
    with pytest.raises(DataError, match="holds a reference"):
        read_card(_with_text(written, escaped))


def test_a_card_nested_without_end_is_one_sentence(written: Path) -> None:
    deep = '{"a":' * 100_000 + "1" + "}" * 100_000
    with pytest.raises(DataError, match="damaged, or no model file"):
        read_card(_with_text(written, f'{{"training":{{"experiment":{deep}}}}}'))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.complex64])
def test_weights_of_another_type_do_not_fit(
    model: ModelFile, tmp_path: Path, dtype: torch.dtype
) -> None:
    cast = {key: value.to(dtype) for key, value in model.weights.items()}
    path = write_model(tmp_path / "model.safetensors", replace(model, weights=cast))
    with pytest.raises(DataError, match="do not fit the network"):
        read_model(path)


def test_a_model_s_name_is_in_plain_characters(model: ModelFile) -> None:
    record = replace(model.card.training, run="Z\u00fcrich\\A")
    assert (
        replace(model.card, training=record, weights="0" * 64).name == "Z_rich_A final " + "0" * 12
    )


def test_changed_weights_are_found(written: Path) -> None:
    tensors = load_file(written)
    with safe_open(written, framework="pt") as file:
        metadata = file.metadata()
    first = next(key for key in tensors if key.startswith("model/"))
    tensors[first] = tensors[first] + 1e-3
    save_file(tensors, written, metadata=metadata)
    with pytest.raises(DataError, match="not those that its card was written for"):
        read_model(written)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\x10\0\0\0\0\0\0\0{}", b"x" * 4000])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged, or no model file"):
        read_card(path)


def test_nvflare_s_own_file_is_told_from_ours(tmp_path: Path) -> None:
    path = tmp_path / "FL_global_model.pt"
    torch.save({"model": {}}, path)
    with pytest.raises(DataError, match="'fedi2i export model' makes one"):
        read_model(path)


def test_weights_that_are_no_numbers_are_refused(model: ModelFile, tmp_path: Path) -> None:
    broken = {key: torch.full_like(value, torch.nan) for key, value in model.weights.items()}
    path = write_model(tmp_path / "model.safetensors", replace(model, weights=broken))
    with pytest.raises(DataError, match="no finite numbers"):
        read_model(path)


def test_other_code_than_the_training_s_is_said(
    written: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_model(written)
    assert not caplog.records
    read_model(_rewritten(written, _set("network", "digest", value="0" * 64)))
    assert "has changed since FedI2I" in caplog.text


def test_a_file_that_cannot_be_written_leaves_nothing(model: ModelFile, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.write_text("a file")
    with pytest.raises((DataError, OSError)):
        write_model(folder / "model.safetensors", model)
    assert list(tmp_path.iterdir()) == [folder]


def test_the_record_takes_from_the_metrics_what_belongs_to_the_model(
    make_experiment: MakeExperiment,
) -> None:
    rows = [
        ("all", 1, "val/psnr", 19.0),
        ("all", 2, "val/psnr", 20.0),
        ("north", 2, "val/psnr", 21.0),
        ("north", 0, "data/samples", 12.0),
        ("all", 0, "data/samples", 12.0),
        ("all", 0, "privacy/epsilon_total", 1.5),
        ("all", 1, "privacy/epsilon_total", 3.0),
    ]
    found = training_record(make_experiment(), "tiny", rows, "final", 2, {"mechanism": "noise"})
    assert found.results == {"val/psnr": 20.0}
    assert found.samples == {"north": 12}
    assert found.privacy == {"mechanism": "noise", "epsilon_spent": 3.0}


def test_a_card_without_a_network_is_no_card() -> None:
    from lightning_modules.translation.model_card import check_card

    with pytest.raises(ConfigError, match="network '' is not one"):
        check_card(ModelCard(), "here")
