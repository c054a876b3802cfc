"""Build the networks of a model with seeded initial weights: for sites, servers and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedi2i.errors import ConfigError
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.networks.discriminator import PatchGAN, SlicePatchGAN
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.networks.initialisation import initialise
from lightning_modules.networks.modulation import ConditionalGenerator
from lightning_modules.networks.own_module import networks_of, own_module, seeded_module
from lightning_modules.networks.own_network import WithoutMemory, own_network
from lightning_modules.seeding import derive_seed

MOST_PARAMETERS = 1_000_000_000
"""Of a model, anywhere: four GB as they are sent. A site may allow fewer in its own file."""


def parameter_count(config: ModelConfig) -> int:
    """The number of parameters of all networks of a model; no memory is taken for them."""
    with torch.random.fork_rng(devices=[]), WithoutMemory():
        if config.module.is_own:
            networks = [*networks_of(own_module(config.module), config.module).values()]
        else:
            networks = [_build(config, role) for role in config.described.roles.values()]
    return sum(value.numel() for network in networks for value in network.parameters())


def build_networks(config: ModelConfig, seed: int) -> nn.ModuleDict:
    """All networks of a model with seeded initial weights.

    Each network has a stream of its own, so that changing one leaves the others' weights alone.
    The global random state is left as it was. A network of a lab's own keeps the weights that its
    constructor draws from that stream: what it zeroes or scales on purpose stays so. Those of a
    module of a lab's own have one stream together.

    Raises:
        ConfigError: the model is larger than any machine of a federation should be asked to hold.
    """
    parameters = parameter_count(config)
    if parameters > MOST_PARAMETERS:
        raise ConfigError(
            f"the model has {parameters:,} parameters, and {MOST_PARAMETERS:,} is the most; take "
            "fewer channels"
        )
    if config.module.is_own:
        return networks_of(seeded_module(config.module, seed), config.module)
    networks = {
        name: _seeded(config, role, derive_seed(seed, "initial weights", name))
        for name, role in config.described.roles.items()
    }
    return nn.ModuleDict(networks)


def example_inputs(
    config: ModelConfig, network: str, size: Sequence[int] | None = None
) -> tuple[Tensor, ...]:
    """Inputs that fit one network, for tracing it.

    Args:
        config: the model.
        network: its name.
        size: rows and columns of the prepared slices; by default a small square. Networks of
            volumes get a patch.
    """
    if size is None:  # of networks of a lab's own, the record's defaults stand for what they halve
        halvings = max(len(config.generator.channels) - 1, config.discriminator.layers + 1)
        size = (4 * 2**halvings,) * 2
    sides = config.view.sides(size)
    shown, one = torch.zeros(1, config.view.channels, *sides), torch.zeros(1, 1, *sides)
    if config.described.roles[network] == "generator":
        code = torch.zeros(1, dtype=torch.long)
        return (shown, code, code) if config.contrasts else (shown,)
    return (shown, one) if _judges_pairs(config) else (one,)


def build_translator(config: ModelConfig) -> nn.Module:
    """The network of a model that translates, with weights that nobody has seeded.

    Of a conditional model it is the whole generator, see ``modulation.for_pair``; of a module of a
    lab's own the part of it that translates.
    """
    if config.contrasts:
        return ConditionalGenerator(config.generator, config.contrasts, config.view)
    return build_generator(config.of_pair, config.view)


def _seeded(config: ModelConfig, role: str, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _build(config, role)
    own = config.generator if role == "generator" else config.discriminator
    if not own.is_own:  # what its layers drew by default is replaced
        initialise(network, seed)
    return network


def _build(config: ModelConfig, role: str) -> nn.Module:
    if role == "generator":
        return build_translator(config)
    if config.discriminator.is_own:
        return own_network(config.discriminator)
    if _judges_pairs(config):
        return PatchGAN(config.discriminator, config.view.channels, config.view.spatial_dims)
    return SlicePatchGAN(config.discriminator, config.view.spatial_dims)


def _judges_pairs(config: ModelConfig) -> bool:
    return config.described.paired
