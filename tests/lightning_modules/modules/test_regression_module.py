"""The regression model is pix2pix's generator with the L1 term, and nothing else."""

from __future__ import annotations

import torch
from torch.optim import Adam
from torch.utils.data import DataLoader

from lightning_modules.configuration import TrainingConfig
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.modules import build_module
from lightning_modules.networks.configuration import DiscriminatorConfig, GeneratorConfig
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.trainer import quiet_trainer

TRAINING = TrainingConfig(learning_rate_generator=1e-3)


def model(name: str) -> ModelConfig:
    return ModelConfig(name, GeneratorConfig(channels=(4, 8)), DiscriminatorConfig(4, 1))


def test_it_starts_from_the_weights_of_pix2pix_s_generator() -> None:
    alone = build_module(model("regression"), TRAINING, seed=3).state_dict()
    with_adversary = build_module(model("pix2pix"), TRAINING, seed=3).state_dict()
    assert alone
    for key, value in alone.items():
        torch.testing.assert_close(value, with_adversary[key], rtol=0, atol=0)


def test_its_steps_are_adam_s_on_the_weighted_mean_absolute_error() -> None:
    module = build_module(model("regression"), TRAINING, seed=3)
    plain = build_module(model("regression"), TRAINING, seed=3)
    draws = torch.Generator().manual_seed(0)
    batches = [
        {name: torch.rand(2, 1, 16, 16, generator=draws) for name in ("source", "target")}
        for _ in range(3)
    ]
    trainer = quiet_trainer(Hardware("cpu", "32-true", 1), [])
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    optimizer = Adam(plain.parameters(), lr=1e-3, betas=(TRAINING.beta1, TRAINING.beta2))
    for batch in batches:
        optimizer.zero_grad()
        (100.0 * (plain(batch["source"]) - batch["target"]).abs().mean()).backward()
        optimizer.step()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(module.state_dict()[key], value)
