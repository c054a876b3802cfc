"""The networks of a Lightning module of a lab's own: built with it, found in it by their names.

The class is imported as networks of a lab's own are (``own_network``): only what this machine's
list allows. Nothing of this project has to be inherited. What else the module must offer is held
against it by ``lightning_modules.modules.own_module_check``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fedi2i.errors import ConfigError
from lightning_modules.networks.own_network import own_network, part_of
from lightning_modules.seeding import derive_seed

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from lightning_modules.networks.configuration import ModuleConfig


def own_module(config: ModuleConfig) -> pl.LightningModule:
    """Build a Lightning module of a lab's own, with what random numbers it draws from torch.

    Raises:
        ConfigError: see ``own_network``; or it is no Lightning module, lacks a network that the
            experiment names, or would send more than its networks.
    """
    # Imported here, as Lightning is slow to load and no other network needs it.
    import pytorch_lightning as pl

    module: Any = own_network(config)
    if not isinstance(module, pl.LightningModule):
        raise ConfigError(
            f"'{config.kind}' is no class of pytorch_lightning.LightningModule; let it be one (of "
            "the package pytorch_lightning, not of lightning), or name a network under "
            "model.generator"
        )
    for name in config.networks:
        part_of(module, name, config.kind)
    others = [key for key in module.state_dict() if key.partition(".")[0] not in config.networks]
    if others:
        raise ConfigError(
            f"'{config.kind}' has '{others[0]}' in its state_dict, and model.module.networks is "
            f"{list(config.networks)}; name the network that holds it there, or keep it in a list "
            "or as a buffer with persistent=False, which nothing shares"
        )
    return module


def seeded_module(config: ModuleConfig, seed: int) -> pl.LightningModule:
    """The module with seeded first weights; the global random state is left as it was.

    The stream is that of its first network: built first, it begins with the weights that it would
    have as a generator of its own.

    Raises:
        ConfigError: see ``own_module``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initial weights", config.networks[0]))
        return own_module(config)


def networks_of(module: nn.Module, config: ModuleConfig) -> nn.ModuleDict:
    """Its networks by their names."""
    return nn.ModuleDict({name: part_of(module, name, config.kind) for name in config.networks})
