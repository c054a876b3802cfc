"""The networks of pix2pix as one plain module, for servers and evaluation: no Lightning needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lightning_modules.configuration import ModelConfig
from lightning_modules.networks.discriminator import PatchGAN
from lightning_modules.networks.generator import UNetGenerator
from lightning_modules.networks.initialisation import initialise
from lightning_modules.seeding import derive_seed
from lightning_modules.sharing_scope import SharingScope
from partitions.typed_config import record_from

NETWORKS = ("generator", "discriminator")


def build_networks(config: ModelConfig, seed: int) -> nn.ModuleDict:
    """Generator and discriminator with seeded initial weights.

    Each network has a stream of its own, so that changing one leaves the other's weights alone.
    The global random state is left as it was.
    """
    # Layers draw default weights when they are made; those are replaced below.
    with torch.random.fork_rng(devices=[]):
        networks: dict[str, nn.Module] = {
            "generator": UNetGenerator(config.generator),
            "discriminator": PatchGAN(config.discriminator),
        }
    for name, network in networks.items():
        initialise(network, derive_seed(seed, "initial weights", name))
    return nn.ModuleDict(networks)


class SharedNetworks(nn.ModuleDict):
    """The part of the networks that a federation shares, as the server builds it from a job.

    Args:
        model: values of ``ModelConfig`` that differ from its defaults.
        sharing: the sharing scope's name.
        seed: the experiment's seed; gives the initial global model.
    """

    def __init__(self, model: Mapping[str, Any], sharing: str, seed: int) -> None:
        config = record_from(ModelConfig, model, "job argument 'model'")
        networks = build_networks(config, seed)
        scope = SharingScope.named(sharing)
        super().__init__({name: networks[name] for name in NETWORKS if name in scope.modules})
