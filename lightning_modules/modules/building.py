"""The Lightning module of a model."""

from __future__ import annotations

import pytorch_lightning as pl

from lightning_modules.configuration import ModelConfig, TrainingConfig
from lightning_modules.modules.cyclegan import CycleGANModule
from lightning_modules.modules.pix2pix import Pix2PixModule

_MODULES = {"pix2pix": Pix2PixModule, "cyclegan": CycleGANModule}


def build_module(model: ModelConfig, training: TrainingConfig, seed: int) -> pl.LightningModule:
    """The module with seeded initial weights; its state_dict holds the networks alone."""
    return _MODULES[model.name](model, training, seed)
