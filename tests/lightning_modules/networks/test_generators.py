"""Every generator of the catalogue offers what the others offer; no test knows one by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import lightning_modules.networks.generators as package
from fedi2i.catalogue import INFRASTRUCTURE
from fedi2i.errors import ConfigError
from lightning_modules.configuration import experiment_from
from lightning_modules.matching.network_groups import network_groups
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.networks.building import build_networks
from lightning_modules.networks.configuration import NORMS, GeneratorConfig
from lightning_modules.networks.generators.catalogue import GENERATORS, build_generator

KINDS = tuple(GENERATORS)
SIZE = (32, 48)


def _config(kind: str, norm: str = "instance", dropout: float = 0.0) -> GeneratorConfig:
    return GeneratorConfig(kind, (4, 6, 8), residual_units=1, norm=norm, dropout=dropout)


def test_every_file_of_the_folder_is_one_generator_that_is_called_like_its_file() -> None:
    (folder,) = package.__path__
    files = {path.stem for path in Path(folder).glob("*.py")} - {"__init__", *INFRASTRUCTURE}
    assert {generator.kind for generator in GENERATORS.values()} == set(KINDS) == files
    assert {"unet", "resnet"} <= files
    assert all(generator.summary for generator in GENERATORS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_check_and_the_configuration_s_take_what_it_is_built_from(kind: str) -> None:
    generator = {"kind": kind, "channels": [4, 6, 8], "residual_units": 1}
    experiment = experiment_from({"model": {"generator": generator}}, "x")
    assert experiment.model.generator == _config(kind)
    assert isinstance(build_generator(experiment.model.generator), nn.Module)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_slices_keep_their_shape_and_stay_within_the_range(kind: str, norm: str) -> None:
    translated = build_generator(_config(kind, norm))(100 * torch.randn(2, 1, *SIZE))
    assert translated.shape == (2, 1, *SIZE)
    assert translated.abs().max() <= 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_in_training_alone(kind: str) -> None:
    torch.manual_seed(0)
    network, image = build_generator(_config(kind, dropout=0.5)), torch.randn(1, 1, *SIZE)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize("kind", KINDS)
def test_some_modules_encode_and_others_decode_and_the_paths_are_right(kind: str) -> None:
    network = build_generator(_config(kind))
    encoder = network.encoder_modules()  # type: ignore[operator]
    assert encoder
    assert all(network.get_submodule(path) is not None for path in encoder)
    encodes = [
        any(name.startswith(f"{path}.") for path in encoder)
        for name, _ in network.named_parameters()
    ]
    assert any(encodes)
    assert not all(encodes)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_its_first_state_hangs_on_the_seed_alone(kind: str, norm: str) -> None:
    states = []
    for outside, seed in ((1, 7), (2, 7), (1, 8)):
        torch.manual_seed(outside)
        networks = build_networks(ModelConfig(generator=_config(kind, norm)), seed)
        states.append(networks["generator"].state_dict())
    one, same, other = states
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    network = build_generator(_config(kind, "instance_affine"))
    network(torch.randn(2, 1, *SIZE)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_fedma_can_look_into_it(kind: str) -> None:
    config = ModelConfig(generator=_config(kind))
    networks = build_networks(config, seed=1)
    groups = network_groups(networks, config, ["generator"])["generator"]
    assert groups.sizes


@pytest.mark.parametrize("kind", KINDS)
def test_reading_a_configuration_that_names_it_imports_neither_torch_nor_monai(kind: str) -> None:
    code = (
        "import sys\n"
        "from lightning_modules.configuration import experiment_from\n"
        f"generator = {{'kind': {kind!r}, 'residual_units': 1}}\n"
        "experiment_from({'model': {'generator': generator}}, 'x')\n"
        "print(sorted({'torch', 'monai', 'pytorch_lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_kind_that_does_not_exist_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown value 'unett'; did you mean 'unet'"):
        build_generator(GeneratorConfig("unett"))


def _goes_up(kind: str) -> bool:
    config = GeneratorConfig(kind, residual_units=1, upsampling="nearest")
    try:
        GENERATORS[kind].refuse(config, (96, 80))
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("kind", [kind for kind in KINDS if _goes_up(kind)])
@pytest.mark.parametrize("units", [1, 2])
def test_nearest_upsampling_has_the_grid_and_the_weights_of_transposed_convolutions(
    kind: str, units: int
) -> None:
    built = {
        upsampling: build_generator(
            GeneratorConfig(
                kind=kind, channels=(4, 6, 8), residual_units=units, upsampling=upsampling
            )
        )
        for upsampling in ("transposed", "nearest")
    }
    images = torch.zeros(2, 1, 32, 24)
    assert built["nearest"](images).shape == images.shape
    kinds = {name: {type(m) for m in net.modules()} for name, net in built.items()}
    assert nn.ConvTranspose2d in kinds["transposed"]
    assert nn.ConvTranspose2d not in kinds["nearest"]
    sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in built.items()}
    assert sizes["nearest"] == sizes["transposed"]
    assert built["nearest"].encoder_modules() == built["transposed"].encoder_modules()
