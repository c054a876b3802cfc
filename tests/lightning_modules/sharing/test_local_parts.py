"""Which keys FedBN, FedPer and LG-FedAvg keep at the site."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.networks.building import build_networks
from lightning_modules.sharing.local_parts import sharing_scope
from lightning_modules.strategies.catalogue import STRATEGIES
from lightning_modules.strategies.interface import LocalInputs, NoSettings

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
        part: keys(make_experiment(model=model, strategy={"name": name}))
        for part, name in (("encoder", "lg_fedavg"), ("decoder", "fedper"))
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
def test_fedper_keeps_what_comes_after_the_encoder_and_lg_fedavg_what_comes_before(
    make_experiment: MakeExperiment, kind: str
) -> None:
    model = {"generator": {"kind": kind, "channels": [4, 8, 8], "residual_units": 1}}
    local = {
        name: keys(make_experiment(model=model, strategy={"name": name}))[1]
        for name in ("lg_fedavg", "fedper")
    }
    generator = build_networks(make_experiment(model=model).model, 1)["generator"]
    order: list[str] = []
    up: list[str] = []
    for path, module in generator.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda *_, path=path: order.append(path))
            if isinstance(module, nn.ConvTranspose2d):
                up.append(path)
    generator(torch.zeros(1, 1, 32, 32))
    first_up = min(order.index(path) for path in up)
    kept = {
        name: [path for path in order if f"generator.{path}.weight" in of_strategy]
        for name, of_strategy in local.items()
    }
    assert kept == {"lg_fedavg": order[:first_up], "fedper": order[first_up:]}


@pytest.mark.parametrize("name", ["fedper", "lg_fedavg"])
def test_a_generator_must_be_shared_for_a_part_of_it_to_stay(name: str) -> None:
    networks = nn.ModuleDict({"discriminator": nn.Linear(1, 1)})
    inputs = LocalInputs(
        networks, ("discriminator",), {"discriminator": "discriminator"}, NoSettings()
    )
    local_parts = STRATEGIES[name].site.local_parts
    assert local_parts is not None
    with pytest.raises(ConfigError, match=f"'{name}': no generator is shared"):
        local_parts(inputs)


def test_the_part_that_fedper_kept_in_earlier_releases_is_refused_with_what_to_say_now(
    make_experiment: MakeExperiment,
) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'strategy\.local_part'"):
        make_experiment(strategy={"name": "fedper", "local_part": "encoder"})
