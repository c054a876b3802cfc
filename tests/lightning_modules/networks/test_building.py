"""Networks: shapes, keys and seeded initial weights."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn

from fedi2i.errors import ConfigError
from fedi2i.typed_config import record_from
from lightning_modules.configuration import TrainingConfig
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.model_networks import MODELS
from lightning_modules.modules import build_module
from lightning_modules.modules.pix2pix import Pix2PixModule
from lightning_modules.networks.building import build_networks, parameter_count
from lightning_modules.networks.configuration import DiscriminatorConfig, GeneratorConfig
from lightning_modules.networks.discriminator import PatchGAN
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.sharing.scope import SharingScope
from lightning_modules.sharing.shared_networks import SharedNetworks

NOT_DEFAULT: dict[str, Any] = {
    "generator": {"channels": [4, 8, 12], "residual_units": 1, "norm": "instance_affine"},
    "discriminator": {"channels": 6, "layers": 2, "norm": "batch"},
    "adversarial_loss": "bce",
    "lambda_l1": 10.0,
}
ALL = "generator+discriminator"


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("channels", [(4, 8), (4, 8, 16, 16)])
@pytest.mark.parametrize("size", [(32, 32), (48, 40)])
def test_the_generator_keeps_the_shape_and_stays_within_its_range(
    channels: tuple[int, ...], size: tuple[int, int]
) -> None:
    translated = build_generator(GeneratorConfig(channels=channels))(100 * torch.randn(2, 1, *size))
    assert translated.shape == (2, 1, *size)
    assert translated.abs().max() <= 1.0


def test_the_generator_has_the_channels_that_were_asked_for() -> None:
    network = build_generator(GeneratorConfig(channels=(5, 7, 11)))
    down = [
        layer.out_channels
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) and layer.out_channels != 1
    ]
    assert down == [5, 7, 11]


@pytest.mark.parametrize(("layers", "patches"), [(1, 14), (2, 6), (3, 2)])
def test_the_discriminator_judges_as_many_patches_as_its_layers_leave(
    layers: int, patches: int
) -> None:
    # 32 pixels halved by every strided layer, then two 4x4 convolutions that each cost one pixel.
    network = PatchGAN(DiscriminatorConfig(channels=4, layers=layers))
    image = torch.randn(2, 1, 32, 32)
    assert network(image, image).shape == (2, 1, patches, patches)


def test_the_discriminator_looks_at_source_and_target() -> None:
    network = PatchGAN(DiscriminatorConfig(channels=4, layers=2)).eval()
    one, other = torch.randn(2, 1, 1, 32, 32)
    logits = network(one, other)
    assert not torch.allclose(logits, network(one, one))
    assert not torch.allclose(logits, network(other, other))


def test_logits_can_be_negative_so_no_activation_hides_behind_the_last_layer() -> None:
    networks = build_networks(ModelConfig(), seed=3)
    logits = networks["discriminator"](*torch.randn(2, 4, 1, 32, 32))
    assert logits.min() < 0 < logits.max()


@pytest.mark.parametrize(
    ("norm", "running", "affine"),
    [("instance", False, False), ("instance_affine", False, True), ("batch", True, True)],
)
def test_the_norm_that_was_asked_for_is_built(norm: str, running: bool, affine: bool) -> None:
    networks = build_networks(
        ModelConfig(
            generator=GeneratorConfig(channels=(4, 8), norm=norm),
            discriminator=DiscriminatorConfig(4, 2, norm),
        ),
        seed=1,
    )
    for network in networks.values():
        state = network.state_dict()
        assert any(key.endswith("running_mean") for key in state) == running
        layers = [layer for layer in network.modules() if "Norm" in type(layer).__name__]
        assert layers
        assert all((layer.weight is not None) == affine for layer in layers)


@pytest.mark.parametrize("model", MODELS)
def test_every_key_of_the_module_starts_with_a_network_name(model: str) -> None:
    state = build_module(ModelConfig(model), TrainingConfig(), seed=1).state_dict()
    assert {key.split(".")[0] for key in state} == set(MODELS[model].names)


def test_initial_weights_follow_the_normal_distribution_of_pix2pix() -> None:
    state = build_networks(ModelConfig(), seed=1).state_dict()
    weights = torch.cat([v.flatten() for k, v in state.items() if k.endswith("conv.weight")])
    assert len(weights) > 100_000
    assert float(weights.mean()) == pytest.approx(0.0, abs=5e-4)
    assert float(weights.std()) == pytest.approx(0.02, rel=0.02)
    assert all(not v.any() for k, v in state.items() if k.endswith("conv.bias"))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, same, other = (build_networks(ModelConfig(), seed).state_dict() for seed in (1, 1, 2))
    assert _equal(one, same)
    for key in one:
        if key.endswith("conv.weight"):
            assert not torch.equal(one[key], other[key]), key


def test_the_global_random_state_does_not_enter_the_weights_and_is_left_alone() -> None:
    torch.manual_seed(7)
    one = SharedNetworks(NOT_DEFAULT, ALL, seed=1).state_dict()
    torch.manual_seed(8)
    before = torch.get_rng_state()
    assert _equal(one, SharedNetworks(NOT_DEFAULT, ALL, seed=1).state_dict())
    assert torch.equal(before, torch.get_rng_state())


def test_another_discriminator_leaves_the_generator_as_it_was() -> None:
    plain = build_networks(ModelConfig(), seed=1)
    wide = build_networks(ModelConfig(discriminator=DiscriminatorConfig(32, 2)), seed=1)
    assert _equal(plain["generator"].state_dict(), wide["generator"].state_dict())
    small = build_networks(ModelConfig(generator=GeneratorConfig(channels=(4, 8))), seed=1)
    assert _equal(plain["discriminator"].state_dict(), small["discriminator"].state_dict())


@pytest.mark.parametrize("scope", ["generator", ALL])
@pytest.mark.parametrize("model", [{}, NOT_DEFAULT], ids=["default", "not default"])
def test_server_and_site_build_the_same_shared_model(scope: str, model: dict[str, Any]) -> None:
    server = SharedNetworks(model, scope, seed=11).state_dict()
    config = record_from(ModelConfig, model, "test")
    site = Pix2PixModule(config, TrainingConfig(), seed=11).state_dict()
    shared = SharingScope(tuple(scope.split("+"))).select(site)
    assert {k: v.shape for k, v in server.items()} == {k: v.shape for k, v in shared.items()}
    assert _equal(dict(server), shared)


def test_the_server_honours_arguments_that_are_not_the_defaults() -> None:
    state = SharedNetworks(NOT_DEFAULT, ALL, seed=11).state_dict()
    default = SharedNetworks({}, ALL, seed=11).state_dict()
    assert {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in default.items()}
    assert any(key.startswith("discriminator.") and "running_mean" in key for key in state)


def test_an_unknown_model_argument_of_the_server_is_named() -> None:
    with pytest.raises(ConfigError, match=r"generator\.chanels.*did you mean 'channels'"):
        SharedNetworks({"generator": {"chanels": [4, 8]}}, "generator", seed=1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["unet", "resnet"])
def test_parameters_are_counted_without_building_them(name: str, kind: str) -> None:
    generator = GeneratorConfig(kind=kind, channels=(4, 8, 16), residual_units=2)
    config = ModelConfig(name=name, generator=generator, discriminator=DiscriminatorConfig(8, 2))
    built = build_networks(config, seed=1).parameters()
    assert parameter_count(config) == sum(value.numel() for value in built)


def test_a_model_that_no_machine_should_be_asked_to_hold_is_refused_before_it_is_built() -> None:
    config = ModelConfig(generator=GeneratorConfig(channels=(4096,) * 4))
    started = time.perf_counter()
    with pytest.raises(ConfigError, match=r"the model has [\d,]+ parameters, and 1,000,000,000 is"):
        build_networks(config, seed=1)
    assert time.perf_counter() - started < 5.0


@pytest.mark.parametrize(
    "model",
    [
        {"generator": {"channels": [16384, 65536]}},
        {"generator": {"channels": [4] * 11}},
        {"discriminator": {"channels": 5000}},
        {"discriminator": {"layers": 30}},
    ],
)
def test_a_server_refuses_what_an_experiment_may_not_say(model: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"job argument 'model'.*(generator|discriminator)"):
        SharedNetworks(model, "generator", seed=1)
