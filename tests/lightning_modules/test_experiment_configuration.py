"""The experiment's configuration: what is accepted, and how the rest is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from fedi2i.errors import ConfigError
from fedi2i.typed_config import read_yaml
from lightning_modules.configuration import (
    ExperimentConfig,
    experiment_from,
    read_experiment,
)

REPOSITORY = Path(__file__).parents[2]


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    """``a.b: 1`` as ``{"a": {"b": 1}}``."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return dict(value)


def _refused(values: Mapping[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        experiment_from(values, "some.yaml")
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_no_values_give_the_defaults() -> None:
    assert experiment_from({}, "some.yaml") == ExperimentConfig()


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("sed", "seed"),
        ("training.step", "steps"),
        ("model.generater", "generator"),
        ("model.generator.chanels", "channels"),
        ("model.discriminator.layer", "layers"),
        ("data.preparation.siz", "size"),
        ("strategy.mu_generater", "mu_generator"),
    ],
)
def test_an_unknown_key_at_any_depth_is_named_with_the_nearest(key: str, wanted: str) -> None:
    sentence = _refused(_nested(key, 1))
    assert f"some.yaml: unknown key '{key}'" in sentence
    assert f"did you mean '{wanted}'?" in sentence


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "x"),
        ("training.steps", 1.5),
        ("training.steps", True),
        ("training.beta1", "high"),
        ("training.optimizer_state", None),
        ("model.generator.channels", 8),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_key(key: str, value: Any) -> None:
    assert f"some.yaml: key '{key}'" in _refused(_nested(key, value))


def test_a_setting_of_a_strategy_with_the_wrong_type_is_refused_by_its_key() -> None:
    values = {"strategy": {"name": "fedprox", "mu_generator": [0.1]}}
    assert "some.yaml: key 'strategy.mu_generator'" in _refused(values)


@pytest.mark.parametrize("section", ["training", "model", "model.generator"])
def test_a_number_in_place_of_a_section_is_refused(section: str) -> None:
    assert "some.yaml" in _refused(_nested(section, 3))


@pytest.mark.parametrize(
    "key",
    [
        "training.rounds",
        "training.steps",
        "training.batch_size",
        "training.learning_rate_generator",
        "training.learning_rate_discriminator",
        "model.discriminator.channels",
        "model.discriminator.layers",
    ],
)
@pytest.mark.parametrize("value", [0, -1])
def test_what_must_be_positive_is_refused_otherwise(key: str, value: int) -> None:
    assert f"{key} is {float(value):g}" in _refused(_nested(key, value)).replace(".0;", ";")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("training.rounds", 10**9, "it must be above 0 and at most 100,000"),
        ("training.steps", 10**9, "it must be above 0 and at most 1,000,000"),
        ("training.batch_size", 10**6, "it must be above 0 and at most 4,096"),
        ("training.learning_rate_generator", 1e9, "it must be above 0 and at most 1,000"),
        ("model.lambda_l1", 1e300, "it must be from 0 to 100,000"),
        ("model.generator.residual_units", 1000, "it must be from 0 to 64"),
        ("model.generator.channels", [16384, 65536], "two to 10 levels of 1 to 4096 channels"),
        ("model.generator.channels", [16] * 11, "two to 10 levels of 1 to 4096 channels"),
        ("model.discriminator.channels", 5000, "it must be above 0 and at most 4,096"),
        ("model.discriminator.layers", 9, "it must be above 0 and at most 8"),
        ("model.image_buffer", 10**6, "it must be from 0 to 10,000"),
        ("data.preparation.size", [65536, 65536], "two integers from 1 to 4096"),
    ],
)
def test_what_nobody_trains_with_is_refused_with_the_largest_value(
    key: str, value: Any, said: str
) -> None:
    assert said in _refused(_nested(key, value))


@pytest.mark.parametrize(
    "key",
    [
        "model.lambda_l1",
        "model.generator.residual_units",
        "strategy.mu_generator",
        "strategy.mu_discriminator",
    ],
)
def test_what_must_not_be_negative_is_refused_otherwise(key: str) -> None:
    values = _nested(key, -1)
    values.setdefault("strategy", {}).setdefault("name", "fedprox")
    assert f"{key} is -1" in _refused(values)


@pytest.mark.parametrize("key", ["training.beta1", "training.beta2", "model.generator.dropout"])
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_a_fraction_outside_zero_to_one_is_refused(key: str, value: float) -> None:
    assert f"{key} is {value}" in _refused(_nested(key, value))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["training.learning_rate_generator", "model.lambda_l1"])
def test_a_number_that_is_not_finite_is_refused(key: str, value: float) -> None:
    assert f"{key} is {value}" in _refused(_nested(key, value))


@pytest.mark.parametrize("size", [[90, 80], [96, 84]])
def test_a_size_the_generator_cannot_halve_is_refused_with_the_divisor(size: list[int]) -> None:
    sentence = _refused({"data": {"preparation": {"size": size}}})
    assert str(size) in sentence
    assert "divisible by 8" in sentence


def test_a_size_is_checked_against_the_levels_that_were_asked_for() -> None:
    values = {
        "data": {"preparation": {"size": [90, 78]}},
        "model": {"generator": {"channels": [4, 8]}},
    }
    assert experiment_from(values, "x").data.preparation.size == (90, 78)


@pytest.mark.parametrize(
    ("channels", "layers", "size"),
    [([4, 8], 4, [32, 32]), ([4, 8], 3, [64, 22]), ([4] * 6, 2, [32, 32])],
)
def test_networks_that_shrink_a_slice_to_nothing_are_refused(
    channels: list[int], layers: int, size: list[int]
) -> None:
    values = {
        "data": {"preparation": {"size": size}},
        "model": {"generator": {"channels": channels}, "discriminator": {"layers": layers}},
    }
    assert "too small" in _refused(values)


@pytest.mark.parametrize("channels", [[8], [8, 0], []])
def test_a_generator_without_two_levels_of_channels_is_refused(channels: list[int]) -> None:
    assert str(channels) in _refused({"model": {"generator": {"channels": channels}}})


@pytest.mark.parametrize("key", ["mu_generator", "mu_discriminator"])
def test_a_proximal_coefficient_is_refused_for_fedavg(key: str) -> None:
    sentence = _refused({"strategy": {"name": "fedavg", key: 0.1}})
    assert "fedprox" in sentence
    assert "fedavg" in sentence


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("strategy.name", "fedprxo", "fedprox"),
        ("model.name", "cycelgan", "cyclegan"),
        ("model.generator.kind", "restnet", "resnet"),
        ("model.adversarial_loss", "lsgn", "lsgan"),
        ("model.generator.norm", "batchnorm", "batch"),
        ("model.discriminator.norm", "instnce", "instance"),
        ("training.optimizer_state", "kep", "keep"),
        ("training.precision", "fp23", "fp32"),
    ],
)
def test_an_unknown_choice_suggests_the_nearest(key: str, value: str, wanted: str) -> None:
    sentence = _refused(_nested(key, value))
    assert f"some.yaml: {key}: unknown value '{value}'; did you mean '{wanted}'?" in sentence


@pytest.mark.parametrize(
    ("model", "sharing", "sentence"),
    [
        ("pix2pix", "generater", "'pix2pix' has no 'generater'; did you mean 'generator'?"),
        ("pix2pix", "discriminator", "leaves out 'generator', which translates"),
        ("cyclegan", "generator_ba", "leaves out 'generator_ab', which translates"),
    ],
)
def test_a_sharing_scope_that_the_model_does_not_know_is_refused(
    model: str, sharing: str, sentence: str
) -> None:
    refused = _refused({"model": {"name": model}, "sharing": sharing})
    assert refused.startswith(f"some.yaml: sharing '{sharing}'")
    assert sentence in refused


def test_pix2pix_refuses_unpaired_slices_and_names_the_way_out() -> None:
    sentence = _refused({"data": {"preparation": {"pairing": "unpaired"}}})
    assert "model 'pix2pix' trains on pairs of slices" in sentence
    assert "data.preparation.pairing is 'unpaired'" in sentence
    assert "'paired' or take model 'cyclegan'" in sentence


@pytest.mark.parametrize("pairing", ["paired", "unpaired"])
def test_cyclegan_takes_both_pairings(pairing: str) -> None:
    values = {"model": {"name": "cyclegan"}, "data": {"preparation": {"pairing": pairing}}}
    assert experiment_from(values, "x").data.preparation.pairing == pairing


def test_cyclegan_without_its_cycle_is_refused() -> None:
    assert "model.lambda_cycle is 0" in _refused({"model": {"name": "cyclegan", "lambda_cycle": 0}})
    # pix2pix has no cycle and does not look at its weight.
    experiment_from({"model": {"lambda_cycle": 0}}, "x")


@pytest.mark.parametrize("key", ["lambda_cycle", "lambda_identity", "image_buffer"])
def test_a_weight_or_buffer_of_cyclegan_below_zero_is_refused(key: str) -> None:
    sentence = _refused({"model": {"name": "cyclegan", key: -1}})
    assert f"model.{key} is -1" in sentence


def test_a_resnet_without_residual_blocks_is_refused() -> None:
    sentence = _refused({"model": {"generator": {"kind": "resnet"}}})
    assert "model.generator.residual_units is 0" in sentence
    assert "at least 1" in sentence


def test_a_resnet_whose_lowest_level_is_one_pixel_wide_is_refused_and_a_unet_is_not() -> None:
    def values(kind: str, side: int) -> dict[str, Any]:
        return {
            "data": {"preparation": {"size": [64, side]}},
            "model": {
                "generator": {"kind": kind, "channels": [4, 4, 4, 4, 4], "residual_units": 1},
                "discriminator": {"layers": 1},
            },
        }

    sentence = _refused(values("resnet", 16))
    assert "[64, 16]" in sentence
    assert "at least 32" in sentence
    experiment_from(values("resnet", 32), "x")
    experiment_from(values("unet", 16), "x")


def test_an_override_wins_over_the_file_and_leaves_its_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text("seed: 5\ntraining:\n  rounds: 3\n  steps: 7\n", encoding="utf-8")
    experiment = read_experiment(path, {"training": {"steps": 9}})
    assert (experiment.seed, experiment.training.rounds, experiment.training.steps) == (5, 3, 9)
    assert experiment.training.batch_size == ExperimentConfig().training.batch_size


def test_a_list_of_an_override_replaces_the_list_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text("model: {generator: {channels: [4, 8, 16]}}\n", encoding="utf-8")
    experiment = read_experiment(path, {"model": {"generator": {"channels": [6, 12]}}})
    assert experiment.model.generator.channels == (6, 12)


def test_a_file_is_named_when_it_is_missing_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such"):
        read_experiment(tmp_path / "nowhere.yaml")
    path = tmp_path / "odd.yaml"
    path.write_text("seeed: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"odd\.yaml: unknown key 'seeed'; did you mean 'seed'"):
        read_experiment(path)


def test_all_records_are_frozen() -> None:
    def check(record: Any) -> None:
        for field in fields(record):
            value = getattr(record, field.name)
            with pytest.raises(FrozenInstanceError):
                setattr(record, field.name, value)
            assert not isinstance(value, list | dict), f"{field.name} can be changed in place"
            if is_dataclass(value):
                check(value)

    check(experiment_from({"model": {"generator": {"channels": [4, 8]}}}, "x"))


@pytest.mark.parametrize(
    "path", sorted(REPOSITORY.glob("jobs/experiments/*.yaml")), ids=lambda path: path.stem
)
def test_the_experiments_of_the_repository_are_accepted(path: Path) -> None:
    experiment_from(read_yaml(path).get("experiment", {}), str(path))
