"""The conditional model descends L1 and the pseudo-source term, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Adam
from torch.utils.data import DataLoader

from lightning_modules.configuration import TrainingConfig
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.modules import build_module
from lightning_modules.networks.configuration import GeneratorConfig
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.trainer import quiet_trainer

TRAINING = TrainingConfig(learning_rate_generator=1e-3)


def model(pseudo_source: float = 1.0) -> ModelConfig:
    generator = GeneratorConfig(channels=(4, 6, 8))
    contrasts = ("t1", "t2", "flair")
    return ModelConfig("conditional", generator, contrasts=contrasts, pseudo_source=pseudo_source)


def some_batches(with_third: bool) -> list[dict[str, Tensor]]:
    draws = torch.Generator().manual_seed(0)
    found = []
    for _ in range(3):
        batch = {
            name: torch.rand(2, 1, 16, 16, generator=draws) * 2 - 1 for name in ("source", "target")
        }
        batch |= {"source_code": torch.tensor([0, 1]), "target_code": torch.tensor([1, 0])}
        found.append(batch | ({"third_code": torch.tensor([2, 2])} if with_third else {}))
    return found


@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("with_third", [False, True])
def test_its_steps_are_adam_s_on_the_two_terms(weight: float, with_third: bool) -> None:
    module = build_module(model(weight), TRAINING, seed=3)
    by_hand = build_module(model(weight), TRAINING, seed=3)
    batches = some_batches(with_third)
    trainer = quiet_trainer(Hardware("cpu", "32-true", 1), [])
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    translate: Any = by_hand.generator
    optimizer = Adam(by_hand.parameters(), lr=1e-3, betas=(TRAINING.beta1, TRAINING.beta2))
    for batch in batches:
        source, target = batch["source"], batch["target"]
        codes = (batch["source_code"], batch["target_code"])
        loss = (translate(source, *codes) - target).abs().mean()
        if with_third:
            third = batch["third_code"]
            stand_in = translate(source, codes[0], third).detach()
            loss = loss + weight * (translate(stand_in, third, codes[1]) - target).abs().mean()
        optimizer.zero_grad()
        (100.0 * loss).backward()
        optimizer.step()
    for key, value in by_hand.state_dict().items():
        torch.testing.assert_close(module.state_dict()[key], value)
