"""A generator that is told by codes between which contrasts it translates."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fedi2i.errors import ConfigError
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.networks.building import build_networks
from lightning_modules.networks.configuration import GeneratorConfig
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.networks.modulation import (
    ConditionalGenerator,
    ModulatedNorm,
    Modulation,
    for_pair,
)

KINDS = ("unet", "resnet")
CONTRASTS = ("t1", "t2", "flair")
T1, T2, FLAIR = (torch.tensor([number]) for number in range(3))
SLICES = torch.rand(1, 1, 48, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1


def drawn(kind: str = "unet", seed: int = 3) -> ConditionalGenerator:
    """As ``build_networks`` draws it."""
    config = ModelConfig("conditional", GeneratorConfig(kind, (4, 6, 8), 1), contrasts=CONTRASTS)
    network = build_networks(config, seed)["generator"]
    assert isinstance(network, ConditionalGenerator)
    return network


def trained(kind: str = "unet") -> ConditionalGenerator:
    """With modulation that does something, as after training."""
    network = drawn(kind)
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, Modulation):
            nn.init.normal_(layer.weight, std=0.2)
            nn.init.normal_(layer.bias, std=0.2)
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_before_training_codes_change_nothing_and_the_network_is_the_plain_one(kind: str) -> None:
    network = drawn(kind).eval()
    plain = build_generator(GeneratorConfig(kind, (4, 6, 8), 1)).eval()
    state = network.network.state_dict()
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    for codes in ((T1, T2), (FLAIR, T1)):
        torch.testing.assert_close(network(SLICES, *codes), plain(SLICES))


@pytest.mark.parametrize("kind", KINDS)
def test_after_training_each_code_matters_by_itself(kind: str) -> None:
    network = trained(kind).eval()
    translated = network(SLICES, T1, T2)
    assert translated.shape == SLICES.shape
    assert (translated - network(SLICES, T1, FLAIR)).abs().max() > 0.01
    assert (translated - network(SLICES, FLAIR, T2)).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_what_encodes_is_told_the_source_s_code_alone(kind: str) -> None:
    network = trained(kind).eval()
    seen: list[torch.Tensor] = []
    bottom = network.get_submodule(network.encoder_modules()[-1])
    bottom.register_forward_hook(lambda *told: seen.append(told[2]))
    for codes in ((T1, T2), (T1, FLAIR), (FLAIR, T2)):
        network(SLICES, *codes)
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[0], seen[2], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_a_plain_network_with_a_fixed_scale_and_shift(kind: str) -> None:
    network = trained(kind).eval()
    plain = for_pair(network, "t2", "flair")
    assert not any(isinstance(layer, ModulatedNorm) for layer in plain.modules())
    assert {*plain.state_dict()} == {
        *build_generator(GeneratorConfig(kind, (4, 6, 8), 1, "instance_affine")).state_dict()
    }
    with torch.no_grad():
        torch.testing.assert_close(plain(SLICES), network(SLICES, T2, FLAIR))
        assert not torch.allclose(plain(SLICES), network(SLICES, T1, FLAIR), atol=1e-3)


def test_slices_of_one_batch_may_have_different_codes() -> None:
    network, sources, targets = trained().eval(), torch.tensor([0, 2]), torch.tensor([1, 0])
    together = network(SLICES.expand(2, -1, -1, -1), sources, targets)
    torch.testing.assert_close(together[:1], network(SLICES, T1, T2))
    torch.testing.assert_close(together[1:], network(SLICES, FLAIR, T1))


def test_its_first_weights_hang_on_the_seed_alone() -> None:
    one = drawn().state_dict()
    torch.rand(7)
    other, third = drawn().state_dict(), drawn(seed=4).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert not torch.equal(one["codes.weight"], third["codes.weight"])
    assert 0.5 < one["codes.weight"].std() < 1.5


def test_no_code_is_left_behind_for_the_next_call() -> None:
    network = trained()
    network(SLICES, T1, T2)
    layers = [layer for layer in network.modules() if isinstance(layer, ModulatedNorm)]
    assert layers
    assert all(layer.code is None for layer in layers)
    copied = copy.deepcopy(network)
    torch.testing.assert_close(copied(SLICES, T1, T2), network(SLICES, T1, T2))


def test_a_contrast_without_a_code_is_refused() -> None:
    with pytest.raises(ConfigError, match="no code for contrast 't1c'; did you mean 't1'"):
        drawn().between("t1c", "t2")


@pytest.mark.parametrize(
    "config",
    [
        GeneratorConfig(channels=(4, 6, 8), norm="batch"),
        GeneratorConfig(channels=(4, 8)),
        GeneratorConfig("srresnet", (4, 6), 1),
    ],
)
def test_a_generator_whose_decoder_cannot_be_told_its_target_is_refused(
    config: GeneratorConfig,
) -> None:
    with pytest.raises(ConfigError, match="take kind 'unet' of three levels or more"):
        ConditionalGenerator(config, CONTRASTS)
