"""Callbacks of one round: kept optimizers are restored, losses are collected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

_REPORT_EVERY = 10


class RoundHistory(pl.Callback):
    """Collects the losses that ``training_step`` returns and reports their running means.

    Args:
        first_step: global number of the round's first step.
        report: called with (tag, mean of the last steps, step) every ten steps, or None.
    """

    def __init__(self, first_step: int, report: Callable[[str, float, int], None] | None) -> None:
        self._first_step = first_step
        self._report = report
        self._losses: dict[str, list[Tensor]] = {}

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Remember the losses; tensors become numbers only when reported, to keep a GPU busy."""
        for tag, value in outputs.items():
            self._losses.setdefault(tag, []).append(value.detach())
        if self._report is not None and (batch_idx + 1) % _REPORT_EVERY == 0:
            for tag, values in self._losses.items():
                mean = float(torch.stack(values[-_REPORT_EVERY:]).mean())
                self._report(tag, mean, self._first_step + batch_idx + 1)

    def means(self) -> dict[str, float]:
        """Mean of each loss over the round."""
        return {tag: float(torch.stack(values).mean()) for tag, values in self._losses.items()}


class RestoredOptimizers(pl.Callback):
    """Loads kept optimizer states before the first step; with None every optimizer starts fresh."""

    def __init__(self, states: list[dict[str, Any]] | None) -> None:
        self._states = states

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the states in the order of ``configure_optimizers``."""
        for optimizer, state in zip(trainer.optimizers, self._states or (), strict=False):
            optimizer.load_state_dict(state)
