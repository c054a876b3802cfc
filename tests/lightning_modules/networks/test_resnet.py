"""The ResNet generator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_modules.model_configuration import ModelConfig
from lightning_modules.networks.building import build_networks
from lightning_modules.networks.configuration import GeneratorConfig
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.networks.layers import ResidualBlock


def _config(
    channels: tuple[int, ...] = (4, 8, 16), blocks: int = 2, **more: object
) -> GeneratorConfig:
    return GeneratorConfig("resnet", channels, blocks, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [(4, 8), (4, 8, 16, 16)])
@pytest.mark.parametrize("size", [(32, 32), (48, 40), (16, 16)])
def test_it_keeps_the_shape_and_stays_within_its_range(
    channels: tuple[int, ...], size: tuple[int, int]
) -> None:
    translated = build_generator(_config(channels))(100 * torch.randn(2, 1, *size))
    assert translated.shape == (2, 1, *size)
    assert translated.abs().max() <= 1.0


@pytest.mark.parametrize("blocks", [1, 3])
def test_it_has_as_many_blocks_as_asked_for_at_the_lowest_level(blocks: int) -> None:
    network = build_generator(_config((4, 8, 16), blocks))
    found = [module for module in network.modules() if isinstance(module, ResidualBlock)]
    assert len(found) == blocks
    widths = {
        m.out_channels for block in found for m in block.modules() if isinstance(m, nn.Conv2d)
    }
    assert widths == {16}


def test_every_block_takes_part() -> None:
    torch.manual_seed(0)
    network = build_generator(_config(blocks=3)).eval()
    image = torch.randn(1, 1, 16, 16)
    whole = network(image)
    for block in network.blocks:
        with torch.no_grad():
            kept = [parameter.clone() for parameter in block.parameters()]
            for parameter in block.parameters():
                parameter.zero_()
            assert not torch.allclose(network(image), whole)
            for parameter, value in zip(block.parameters(), kept, strict=True):
                parameter.copy_(value)
    assert torch.equal(network(image), whole)


def test_a_block_whose_layers_give_zero_is_the_identity() -> None:
    block = ResidualBlock(4, nn.InstanceNorm2d, dropout=0.0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
    features = torch.randn(2, 4, 5, 6)
    assert torch.equal(block(features), features)


def test_the_modules_that_lead_down_exist_and_hold_everything_but_the_way_up() -> None:
    network = build_generator(_config())
    encoder = network.encoder_modules()
    under = [
        any(name.startswith(f"{path}.") for path in encoder)
        for name, _ in network.named_parameters()
    ]
    names = [name for name, _ in network.named_parameters()]
    left = {name.split(".")[0] for name, found in zip(names, under, strict=True) if not found}
    assert left == {"up", "head"}
    assert all(network.get_submodule(path) is not None for path in encoder)


def test_cyclegan_is_built_of_two_generators_and_two_discriminators_of_single_slices() -> None:
    networks = build_networks(ModelConfig(name="cyclegan", generator=_config()), seed=1)
    assert list(networks) == ["generator_ab", "generator_ba", "discriminator_a", "discriminator_b"]
    image = torch.randn(2, 1, 32, 32)
    for name, network in networks.items():
        output = network(image)
        assert (output.shape == image.shape) == name.startswith("generator"), name
    first, second = (networks[f"generator_{way}"].state_dict() for way in ("ab", "ba"))
    key = "stem.1.weight"
    assert not torch.equal(first[key], second[key])
