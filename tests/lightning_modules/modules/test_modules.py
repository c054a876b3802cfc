"""What the list of models says of a model is what its Lightning module does."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_modules.configuration import TrainingConfig
from lightning_modules.data.contrast_draws import SOURCE_CODE, TARGET_CODE, THIRD_CODE
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.model_networks import MODELS
from lightning_modules.modules import build_module
from lightning_modules.networks.configuration import DiscriminatorConfig, GeneratorConfig
from lightning_modules.training.callbacks import RoundHistory
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.trainer import quiet_trainer


def _module(name: str) -> pl.LightningModule:
    own: dict[str, Any] = {"lambda_features": 10.0} if name == "pix2pix" else {}
    if MODELS[name].conditional:
        own = {"contrasts": ("t1", "t2", "flair")}
    generator, discriminator = GeneratorConfig(channels=(4, 6, 8)), DiscriminatorConfig(4, 1)
    model = ModelConfig(name, generator, discriminator, **own)
    return build_module(model, TrainingConfig(), seed=1)


@pytest.mark.parametrize("name", MODELS)
def test_a_module_has_the_listed_networks_and_an_optimizer_for_each(name: str) -> None:
    module = _module(name)
    assert {key.split(".")[0] for key in module.state_dict()} == set(MODELS[name].names)
    optimizers = module.configure_optimizers()
    assert isinstance(optimizers, list)
    named = [group["name"] for optimizer in optimizers for group in optimizer.param_groups]
    assert tuple(named) == MODELS[name].names


@pytest.mark.parametrize("name", MODELS)
def test_the_losses_that_may_leave_are_all_that_a_step_returns(name: str) -> None:
    history = RoundHistory(first_step=0, report=None)
    trainer = quiet_trainer(Hardware("cpu", "32-true", 1), [history])
    batches: list[dict[str, Tensor]] = [
        {domain: torch.rand(2, 1, 16, 16) for domain in ("source", "target")}
    ]
    if MODELS[name].conditional:
        codes = (SOURCE_CODE, TARGET_CODE, THIRD_CODE)
        batches[0] |= {code: torch.full((2,), number) for number, code in enumerate(codes)}
    trainer.fit(_module(name), DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    assert set(history.means()) == set(MODELS[name].losses)
