"""What no strategy may touch, whichever it is."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import SGD

from lightning_modules.strategies.feddyn import DynamicRegularisation
from lightning_modules.strategies.fedprox import ProximalTerm
from lightning_modules.strategies.interface import GradientTerm
from lightning_modules.strategies.scaffold import ControlVariates
from lightning_modules.training.gradient_editor import GradientEditor

ROLES = {"generator": "generator"}
NO_TRAINER: Any = None
KEYS = ("generator.0.weight", "generator.0.bias", "generator.1.weight", "generator.1.bias")


class _Network(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.generator = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.generator[2].weight.requires_grad_(False)
        self.generator[2].bias.requires_grad_(False)


def _term(kind: str) -> GradientTerm:
    ones = {key: torch.ones(4, 3) if key.endswith("0.weight") else torch.ones(4) for key in KEYS}
    if kind == "proximal":
        return ProximalTerm({"generator": 3.0})
    if kind == "control":
        return ControlVariates(1.0, own={}, server=ones)
    return DynamicRegularisation({"generator": 3.0}, ones, ROLES)


@pytest.mark.parametrize("kind", ["proximal", "control", "dynamic"])
def test_buffers_and_frozen_parameters_are_left_alone(kind: str) -> None:
    module = _Network()
    editor = GradientEditor(_term(kind), ROLES, lambda key: True)
    editor.on_train_start(NO_TRAINER, module)
    module.generator(torch.randn(8, 3)).square().mean().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5)
    frozen = module.generator[2].bias
    frozen.grad = torch.full_like(frozen, 5.0)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    task = module.generator[0].weight.grad.clone()
    parameters = list(module.generator.parameters())
    optimizer = SGD([{"params": parameters, "name": "generator"}], lr=0.1)
    editor.on_before_optimizer_step(NO_TRAINER, module, optimizer)
    assert not torch.equal(module.generator[0].weight.grad, task)
    assert torch.equal(frozen.grad, torch.full_like(frozen, 5.0))
    assert module.generator[2].weight.grad is None
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("kind", ["control", "dynamic"])
def test_only_shared_trainable_parameters_are_remembered(kind: str) -> None:
    module = _Network()
    term = _term(kind)
    editor = GradientEditor(term, ROLES, lambda key: not key.startswith("generator.1"))
    editor.on_train_start(NO_TRAINER, module)
    kept = term.kept(dict(module.state_dict()))
    assert set(kept) == {"generator.0.weight", "generator.0.bias"}
