"""A Lightning module of a lab's own, as the learner trains it: its optimizers by its networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer

from fedi2i.errors import ConfigError
from lightning_modules.networks.configuration import ModuleConfig
from lightning_modules.networks.own_module import seeded_module

RATE = "rate"
"""Key of a group of parameters: the learning rate that its module has given it."""


def trainable_module(config: ModuleConfig, seed: int) -> pl.LightningModule:
    """The module with seeded first weights, and optimizers that Lightning and strategies know.

    The class gives a mapping of networks' names to optimizers, which Lightning would take for
    something else: the instance is asked through a function that turns it into a list. All else of
    the class stays as the lab wrote it.

    Raises:
        ConfigError: see ``own_module``.
    """
    module: Any = seeded_module(config, seed)
    made = module.configure_optimizers
    module.configure_optimizers = lambda: named_optimizers(module, config, made())
    trainable: pl.LightningModule = module
    return trainable


def named_optimizers(module: Any, config: ModuleConfig, found: object) -> list[Optimizer]:
    """A module's optimizers in the order of its networks, each with its network's name.

    Args:
        module: has the networks as attributes.
        config: names them.
        found: what ``configure_optimizers`` of the class has given.

    Raises:
        ConfigError: it is no optimizer for every network, each with all parameters of that one.
    """
    if not isinstance(found, Mapping) or set(found) != set(config.networks):
        given = f"a {type(found).__name__}"
        if isinstance(found, Mapping):
            given = f"a mapping of {', '.join(map(str, found)) or 'nothing'}"
        raise ConfigError(
            f"'{config.kind}': its configure_optimizers() gives {given}; give a dict of one "
            f"optimizer for each of {', '.join(config.networks)}"
        )
    for name in config.networks:
        _name(found[name], name, getattr(module, name), config.kind)
    return [found[name] for name in config.networks]


def _name(optimizer: object, name: str, network: Any, kind: str) -> None:
    """Note whose optimizer it is, and the rate that schedules are a part of."""
    where = f"'{kind}': its configure_optimizers() gives for '{name}'"
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(
            f"{where} a {type(optimizer).__name__}; give an optimizer of torch alone, the schedule "
            "of its rate is training.schedule"
        )
    parameters = [id(value) for value in network.parameters()]
    groups = optimizer.param_groups
    if len(groups) != 1 or [id(value) for value in groups[0]["params"]] != parameters:
        raise ConfigError(
            f"{where} an optimizer of other parameters, or of several groups; give it "
            f"self.{name}.parameters() in one"
        )
    groups[0]["name"] = name
    groups[0][RATE] = groups[0]["lr"]
