"""Which keys FedBN and FedPer keep at the site."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.networks.building import build_networks
from lightning_modules.sharing.local_parts import sharing_scope

MakeExperiment = Callable[..., ExperimentConfig]


def keys(experiment: ExperimentConfig) -> tuple[set[str], set[str]]:
    """Shared and local keys of the shared networks."""
    state = build_networks(experiment.model, 1).state_dict()
    scope = sharing_scope(experiment)
    shared = set(scope.select(state))
    return shared, {k for k in state if k.split(".")[0] in scope.networks} - shared


@pytest.mark.parametrize("norm", ["instance_affine", "batch"])
@pytest.mark.parametrize("kind", ["unet", "resnet"])
def test_fedbn_keeps_everything_of_every_normalisation_layer_and_nothing_else(
    make_experiment: MakeExperiment, norm: str, kind: str
) -> None:
    experiment = make_experiment(
        model={
            "generator": {"kind": kind, "norm": norm, "residual_units": 1},
            "discriminator": {"norm": norm},
        },
        strategy={"name": "fedbn"},
    )
    _, local = keys(experiment)
    networks = build_networks(experiment.model, 1)
    norms = (nn.BatchNorm2d, nn.InstanceNorm2d)
    expected = {
        f"{path}.{name}"
        for path, module in networks.named_modules()
        if isinstance(module, norms)
        for name in module.state_dict()
    }
    assert local == expected
    assert expected


def test_without_parameters_in_its_normalisation_fedbn_shares_everything(
    make_experiment: MakeExperiment,
) -> None:
    _, local = keys(make_experiment(strategy={"name": "fedbn"}))
    assert local == set()


@pytest.mark.parametrize("kind", ["unet", "resnet"])
def test_encoder_and_decoder_divide_the_generator_between_them(
    make_experiment: MakeExperiment, kind: str
) -> None:
    model = {"generator": {"kind": kind, "channels": [4, 8, 8], "residual_units": 1}}
    parts = {
        part: keys(make_experiment(model=model, strategy={"name": "fedper", "local_part": part}))
        for part in ("encoder", "decoder")
    }
    generator = {
        f"generator.{key}"
        for key in build_networks(make_experiment(model=model).model, 1)["generator"].state_dict()
    }
    assert parts["encoder"][1] | parts["decoder"][1] == generator
    assert not parts["encoder"][1] & parts["decoder"][1]
    for shared, local in parts.values():
        assert local
        assert not local & shared
        assert {key.split(".")[0] for key in shared} == {"generator", "discriminator"}


@pytest.mark.parametrize("kind", ["unet", "resnet"])
def test_the_encoder_is_what_comes_before_the_first_upsampling(
    make_experiment: MakeExperiment, kind: str
) -> None:
    model = {"generator": {"kind": kind, "channels": [4, 8, 8], "residual_units": 1}}
    experiment = make_experiment(model=model, strategy={"name": "fedper"})
    generator = build_networks(experiment.model, 1)["generator"]
    _, local = keys(experiment)
    order: list[str] = []
    up: list[str] = []
    for path, module in generator.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda *_, path=path: order.append(path))
            if isinstance(module, nn.ConvTranspose2d):
                up.append(path)
    generator(torch.zeros(1, 1, 32, 32))
    first_up = min(order.index(path) for path in up)
    assert [path for path in order if f"generator.{path}.weight" in local] == order[:first_up]


def test_fedper_needs_a_shared_generator_to_keep_a_part_of() -> None:
    from lightning_modules.configuration import experiment_from

    with pytest.raises(ConfigError, match="leaves out 'generator'"):
        experiment_from({"sharing": "discriminator", "strategy": {"name": "fedper"}}, "test")
