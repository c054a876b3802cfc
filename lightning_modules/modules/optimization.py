"""Steps of a model's networks: one named optimizer for each, and networks frozen for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from lightning_modules.configuration import TrainingConfig
from lightning_modules.model_networks import ModelNetworks


def network_optimizers(
    module: nn.Module, networks: ModelNetworks, training: TrainingConfig
) -> list[Optimizer]:
    """An optimizer for every network of a model, in the model's order.

    Each bears its network's name, so that strategies know whose step it is.

    Args:
        module: has the networks as attributes.
        networks: their names and roles; the role gives the learning rate.
        training: kind of optimizer, learning rates and Adam's betas.
    """
    rates = training.rates()
    return [
        _optimizer(name, getattr(module, name), rates[role], training)
        for name, role in networks.roles.items()
    ]


def step(module: pl.LightningModule, loss: Tensor, *optimizers: Any) -> None:
    """One step of optimizers with a loss in common; nothing where all parameters are frozen."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    if loss.requires_grad:
        module.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """No gradients for these parameters inside; afterwards each is as it was before."""
    listed = list(parameters)
    flags = [parameter.requires_grad for parameter in listed]
    for parameter in listed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in zip(listed, flags, strict=True):
            parameter.requires_grad_(flag)


def _optimizer(name: str, network: nn.Module, rate: float, training: TrainingConfig) -> Optimizer:
    groups = [{"params": list(network.parameters()), "name": name}]
    if training.optimizer == "sgd":
        return SGD(groups, lr=rate)
    return Adam(groups, lr=rate, betas=(training.beta1, training.beta2))
