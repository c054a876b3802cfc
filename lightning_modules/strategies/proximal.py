"""FedProx on a site: pull every network towards the received global model.

FedProx adds mu/2 * ||w - w_t||^2 to the local objective (Li et al., MLSys 2020, arXiv:1812.06127,
equation 2); its gradient mu * (w - w_t) is added to each network's gradients before that network's
own optimizer step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer


class ProximalTerm(pl.Callback):
    """Adds the proximal gradient of each named optimizer.

    Only trainable parameters are pulled: buffers and frozen parameters are left alone. With mu = 0
    a network's gradients are not touched at all, so the run equals FedAvg bit for bit.

    Args:
        mu: coefficient per network name; 0 regresses to FedAvg.
    """

    def __init__(self, mu: Mapping[str, float]) -> None:
        self._mu = dict(mu)
        self._anchors: dict[int, Tensor] = {}
        self._ratios: dict[str, list[Tensor]] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the received model: it is loaded by now and no step has been taken."""
        self._ratios = {}
        self._anchors = {
            id(parameter): parameter.detach().clone()
            for parameter in pl_module.parameters()
            if parameter.requires_grad
        }

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Add mu * (w - w_t) and note how large it is next to the task's gradient."""
        for group in optimizer.param_groups:
            mu = self._mu.get(group["name"], 0.0)
            if mu > 0.0:
                self._pull(group, mu)

    def ratios(self) -> dict[str, float]:
        """Mean of ||mu (w - w_t)|| / ||task gradient|| over the round's steps, per network."""
        return {
            f"fedprox/ratio_{name}": float(torch.stack(values).mean())
            for name, values in self._ratios.items()
        }

    def _pull(self, group: dict[str, Any], mu: float) -> None:
        pulled = [p for p in group["params"] if p.grad is not None and id(p) in self._anchors]
        gradients = [parameter.grad for parameter in pulled]
        with torch.no_grad():
            anchors = [self._anchors[id(parameter)] for parameter in pulled]
            terms = torch._foreach_sub(pulled, anchors)
            ratio = mu * _norm(terms) / _norm(gradients).clamp_min(1e-12)
            torch._foreach_add_(gradients, terms, alpha=mu)
        self._ratios.setdefault(group["name"], []).append(ratio)


def _norm(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    norm: Tensor = torch.stack(torch._foreach_norm(tensors)).norm()
    return norm
