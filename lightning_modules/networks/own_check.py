"""What a network of a lab's own must offer, held against it before the first round.

Each requirement is one sentence that names what is wrong and what to do; the table of
``docs/howto/bring-your-own-network.md`` lists them with their reasons. Copies are tried, never the
network that will be trained: layers such as spectral normalisation change in every forward pass.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.model_networks import shared_networks
from lightning_modules.networks.building import build_networks, example_inputs
from lightning_modules.networks.configuration import NetworkConfig
from lightning_modules.networks.own_network import (
    OwnGenerator,
    missing_package,
    running_statistics,
    said,
)

_SLICES = 2
"""Enough for batch normalisation, which needs more than one value per channel."""
_BYTES = 4  # of a number, as it is sent
_BOUND = "leave out model.generator.output, so that tanh follows it"
_BOUND_PART = "let the network that translates end with tanh"


@dataclass(frozen=True)
class Offer:
    """What a network was found to offer.

    Attributes:
        network: its name in the model.
        kind: its class, or the kind of this project's.
        inputs: shapes of what it was given.
        output: shape of what it gave, or None where that was no one tensor.
        parameters: numbers that are trained.
        megabytes: what one update of it is when it is sent, buffers included.
        unused: parameters that no gradient reaches, which are sent for nothing.
        statistics: layers that keep running statistics.
    """

    network: str
    kind: str
    inputs: tuple[torch.Size, ...]
    output: torch.Size | None
    parameters: int
    megabytes: float
    unused: tuple[str, ...]
    statistics: tuple[str, ...]

    @property
    def text(self) -> str:
        """All of it in words."""
        words = [f"{self.parameters:,} parameters, {self.megabytes:.2f} MB per update"]
        if self.output is not None:
            given = " and ".join(_shape(one) for one in self.inputs)
            words.insert(0, f"{given} becomes {_shape(self.output)}")
        if self.statistics:
            words.append(
                f"{len(self.statistics)} layers keep running statistics, such as "
                f"'{self.statistics[0]}': they are averaged, and no privacy mechanism takes them"
            )
        if self.unused:
            words.append(
                f"{len(self.unused)} parameters get no gradient, such as '{self.unused[0]}': they "
                "are sent for nothing"
            )
        return "; ".join(words)


def check_own_networks(experiment: ExperimentConfig) -> None:
    """Refuse networks of a lab's own that cannot be trained as the experiment asks.

    Nothing is built where there is none.

    Raises:
        ConfigError: naming the class, what it lacks and what to do.
    """
    model = experiment.model
    rule = experiment.strategy.record.server
    if model.module.is_own:
        offers(experiment)
        if rule is not None and rule.matches_channels:
            _check_traceable(experiment, shared_networks(model.described, experiment.sharing))
        return
    own = [name for name, role in model.described.roles.items() if _config(model, role).is_own]
    if not own:
        return
    offers(experiment, own)
    if rule is not None and rule.matches_channels:
        _check_traceable(experiment, own)


def _check_traceable(experiment: ExperimentConfig, names: Sequence[str]) -> None:
    # Imported here, as most strategies trace nothing.
    from lightning_modules.matching.network_groups import network_groups
    from lightning_modules.matching.tracing import UntraceableNetworkError

    model, size = experiment.model, experiment.data.preparation.size
    built = build_networks(model, experiment.seed)
    for name in names:
        try:
            network_groups(built, model, [name], size)
        except UntraceableNetworkError as error:
            own: NetworkConfig = model.module
            if not own.is_own:
                own = _config(model, model.described.roles[name])
            raise ConfigError(
                f"'{own.kind}' does not let '{experiment.strategy.name}' see which channels belong "
                f"together in '{name}': {error}"
            ) from error


def offers(experiment: ExperimentConfig, names: list[str] | None = None) -> tuple[Offer, ...]:
    """Try networks of a model on the prepared size.

    Args:
        experiment: the experiment.
        names: the networks; by default all.

    Raises:
        ConfigError: see ``check_own_networks``.
    """
    model, roles = experiment.model, experiment.model.described.roles
    if model.module.is_own:
        # Imported here, as it imports this one, and Lightning is slow to load.
        from lightning_modules.modules.own_module_check import module_offers

        return module_offers(experiment)
    first, second = (build_networks(model, experiment.seed) for _ in range(2))
    found = []
    for name in names or list(roles):
        config = _config(model, roles[name])
        check_repeatable(config.kind, first[name].state_dict(), second[name].state_dict())
        check_names(config.kind, first[name])
        inputs = noise(example_inputs(model, name, experiment.data.preparation.size))
        found.append(tried(name, config, roles[name], first[name], inputs))
    return tuple(found)


def _config(model: object, role: str) -> NetworkConfig:
    config: NetworkConfig = getattr(model, role)
    return config


def noise(like: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Slices over the whole range, the same in every process; codes stay as they are."""
    random = torch.Generator().manual_seed(0)
    return tuple(
        torch.rand((_SLICES, *one.shape[1:]), generator=random) * 2 - 1
        if one.is_floating_point()
        else one.expand(_SLICES)
        for one in like
    )


def check_repeatable(kind: str, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Refuse first weights that do not hang on the seed alone."""
    if one.keys() == other.keys():
        differing = [key for key in one if not torch.equal(one[key], other[key])]
        if not differing:
            return
        what = f"'{differing[0]}' differs"
    else:
        what = f"'{sorted(one.keys() ^ other.keys())[0]}' is there once"
    raise ConfigError(
        f"'{kind}' has other first weights whenever it is built with the same seed ({what}), so "
        "that server and sites would start from different models; draw random numbers from torch "
        "alone, not from numpy, random or the clock"
    )


def check_names(kind: str, network: nn.Module) -> None:
    """Refuse a tensor under two names, which would be sent, clipped and noised twice."""
    first: dict[tuple[int, torch.Size], str] = {}
    for key, value in network.state_dict(keep_vars=True).items():
        if not value.numel():
            continue
        known = first.setdefault((value.data_ptr(), value.shape), key)
        if known != key:
            raise ConfigError(
                f"'{kind}' has one tensor under two names, '{known}' and '{key}', so that it would "
                "be sent, clipped and noised twice; register the module that holds it once"
            )


def tried(
    name: str, config: NetworkConfig, role: str, network: nn.Module, inputs: tuple[Tensor, ...]
) -> Offer:
    """Run a copy in both modes, and backwards in training mode."""
    copied = copy.deepcopy(network)
    keys = set(copied.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for training in (False, True):
            output = _output(config.kind, copied.train(training), inputs)
            _check_output(config, role, output, inputs)
            if set(copied.state_dict()) != keys:
                raise ConfigError(
                    f"'{config.kind}' makes parameters in its forward method, which no received "
                    "model could fill; make them in its constructor"
                )
        output.square().sum().backward()  # type: ignore[no-untyped-call]
    shapes = (tuple(one.shape for one in inputs), output.shape)
    unused = tuple(key for key, value in copied.named_parameters() if value.grad is None)
    return offer_of(name, config.kind, network, shapes, unused)


def offer_of(
    name: str,
    kind: str,
    network: nn.Module,
    shapes: tuple[tuple[torch.Size, ...], torch.Size] | None,
    unused: tuple[str, ...],
) -> Offer:
    """What a network offers; see ``Offer``.

    Args:
        name: its name in the model.
        kind: its class.
        network: the network.
        shapes: of what it was given and of what it gave, where that is known.
        unused: parameters that no gradient reaches.
    """
    inputs, output = shapes or ((), None)
    return Offer(
        name,
        kind,
        inputs,
        output,
        sum(value.numel() for value in network.parameters()),
        sum(value.numel() for value in network.state_dict().values()) * _BYTES / 1e6,
        unused,
        running_statistics(network),
    )


def _output(kind: str, network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    shapes = " and ".join(_shape(one.shape) for one in inputs)
    bare = network.network if isinstance(network, OwnGenerator) else network
    try:
        output = bare(*inputs)
    except ImportError as error:
        raise ConfigError(missing_package(kind, error)) from error
    except Exception as error:  # the code is not ours: it may raise anything
        mode = "training" if network.training else "evaluation"
        raise ConfigError(
            f"'{kind}' cannot take slices of shape {shapes} in {mode} mode ({said(error)}); "
            f"{_remedy(inputs[0])}"
        ) from error
    if not isinstance(output, Tensor):
        raise ConfigError(
            f"'{kind}' gives a {type(output).__name__} in place of one tensor; wrap it in a module "
            "that picks the one to train"
        )
    return network.bounded(output) if isinstance(network, OwnGenerator) else output


def _check_output(
    config: NetworkConfig, role: str, output: Tensor, inputs: tuple[Tensor, ...]
) -> None:
    kind, given = config.kind, inputs[0].shape
    expected = torch.Size((given[0], 1, *given[2:]))
    is_generator = role == "generator"
    if is_generator and output.shape != expected:
        raise ConfigError(
            f"'{kind}' makes {_shape(output.shape)} of slices of shape {_shape(given)}, and a "
            f"translation has {_expected(given, expected)}; {_remedy(inputs[0])}"
        )
    if not is_generator and (output.ndim < 2 or len(output) != len(inputs[0])):
        raise ConfigError(
            f"'{kind}' makes {_shape(output.shape)} of {_SLICES} slices; a discriminator gives "
            "logits for every slice, its first axis"
        )
    if output.dtype != torch.float32 or not bool(output.isfinite().all()):
        raise ConfigError(
            f"'{kind}' gives {str(output.dtype).removeprefix('torch.')} numbers that are not all "
            "finite 32-bit numbers; correct its forward method"
        )
    if is_generator:
        _check_range(config, output)


def _check_range(config: NetworkConfig, output: Tensor) -> None:
    low, high = float(output.detach().min()), float(output.detach().max())
    # What begins as a constant, with a last layer of zeros, says nothing of its range.
    if low != high and not low < 0 < high:
        raise ConfigError(
            f"'{config.kind}' gives values from {low:.3g} to {high:.3g} on noise, and slices lie "
            "in [-1, 1], so that half of them may be out of reach; let its last layer have no ReLU"
        )
    if max(-low, high) > 1:
        raise ConfigError(
            f"'{config.kind}' gives values from {low:.3g} to {high:.3g}, and slices lie in "
            f"[-1, 1]; {_BOUND_PART if getattr(config, 'part', '') else _BOUND}"
        )


def _expected(given: torch.Size, expected: torch.Size) -> str:
    if given == expected:
        return "the shape of its source"
    return f"the shape {_shape(expected)}, that of one slice for each that is shown with others"


def _remedy(shown: Tensor) -> str:
    channels = shown.shape[1]
    if channels == 1:
        key = "model.patch" if shown.ndim == 5 else "data.preparation.size"
        return f"change {key} or the network"
    return (
        f"give its first layer the {channels} channels that model.neighbours asks for, or "
        "data.preparation.further_sources, and its last layer one, or change data.preparation.size"
    )


def _shape(shape: torch.Size) -> str:
    return " x ".join(str(size) for size in shape)
