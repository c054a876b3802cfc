"""The Lightning modules of the models; ``lightning_modules/model_networks.py`` lists them."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

from lightning_modules.model_networks import MODELS

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from lightning_modules.configuration import ModelConfig, TrainingConfig


def build_module(model: ModelConfig, training: TrainingConfig, seed: int) -> pl.LightningModule:
    """The module with seeded initial weights; its state_dict holds the networks alone."""
    build = resolve_name(MODELS[model.name].module)
    module: pl.LightningModule = build(model, training, seed)
    return module
