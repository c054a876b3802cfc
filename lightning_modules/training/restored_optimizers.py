"""Carry optimizers over from the last round."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


class RestoredOptimizers(pl.Callback):
    """Loads kept optimizer states before the first step; with None every optimizer starts fresh."""

    def __init__(self, states: list[dict[str, Any]] | None) -> None:
        self._states = states

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the states in the order of ``configure_optimizers``."""
        for optimizer, state in zip(trainer.optimizers, self._states or (), strict=False):
            optimizer.load_state_dict(state)
