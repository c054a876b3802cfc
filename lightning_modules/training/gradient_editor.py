"""The one mechanism by which strategies act at a site: gradients are edited before each step.

Lightning calls ``on_before_optimizer_step`` for every optimizer, also under manual optimisation, so
a GAN's networks are edited one by one, each just before its own optimizer's step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.strategies.interface import GradientTerm

_MEASURE_EVERY = 5
"""Norms are taken at every fifth step of a network, from the second on (at the first a proximal
term is zero by definition): they cost as much as the term itself."""


class GradientEditor(pl.Callback):
    """Adds a strategy's term to the gradients of every network's shared, trainable parameters.

    Buffers, frozen parameters and parameters that are not shared are left alone: a strategy ties a
    site to the federation, and those take no part in it. Where a term returns None gradients are
    not touched at all, so that the round equals FedAvg's bit for bit.

    Args:
        term: the strategy's term.
        roles: network name to role.
        covers: whether a key is shared.
    """

    def __init__(
        self, term: GradientTerm, roles: Mapping[str, str], covers: Callable[[str], bool]
    ) -> None:
        self._term = term
        self._roles = roles
        self._covers = covers
        self._keys: dict[int, str] = {}
        self._steps: dict[str, int] = {}
        self._ratios: dict[str, list[Tensor]] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the term the received model: it is loaded by now and no step has been taken."""
        shared = {
            key: parameter
            for key, parameter in pl_module.named_parameters()
            if parameter.requires_grad and self._covers(key)
        }
        self._keys = {id(parameter): key for key, parameter in shared.items()}
        self._steps, self._ratios = {}, {}
        self._term.start({key: parameter.detach().clone() for key, parameter in shared.items()})

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Add the term and note now and then how large it is next to the task's gradient."""
        for group in optimizer.param_groups:
            self._edit(group["name"], group["params"])

    def ratios(self) -> dict[str, float]:
        """Mean of ||term|| / ||task gradient|| over the measured steps, per role."""
        return {
            f"strategy/ratio_{role}": float(torch.stack(values).mean())
            for role, values in self._ratios.items()
        }

    @torch.no_grad()
    def _edit(self, network: str, parameters: Sequence[Tensor]) -> None:
        edited = [p for p in parameters if p.grad is not None and id(p) in self._keys]
        if not edited:
            return
        role = self._roles[network]
        gradients: list[Any] = [parameter.grad for parameter in edited]
        keys = [self._keys[id(parameter)] for parameter in edited]
        additions = self._term.additions(role, keys, edited, gradients)
        step = self._steps.get(network, 0)
        self._steps[network] = step + 1
        if additions is None:
            return
        if step % _MEASURE_EVERY == 1:
            ratio = _norm(additions) / _norm(gradients).clamp_min(1e-12)
            self._ratios.setdefault(role, []).append(ratio)
        torch._foreach_add_(gradients, list(additions))


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    norm: Tensor = torch.stack(torch._foreach_norm(list(tensors))).norm()
    return norm
