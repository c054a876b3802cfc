"""Regression as a LightningModule: pix2pix's generator with the L1 term alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from lightning_modules.configuration import ModelConfig, TrainingConfig
from lightning_modules.data.slices import Batch
from lightning_modules.model_networks import MODELS
from lightning_modules.modules.optimization import network_optimizers, step
from lightning_modules.networks.building import build_networks


class RegressionModule(pl.LightningModule):
    """pix2pix without its adversary: no discriminator is built, trained or sent.

    The generator starts from the weights that it has in pix2pix with the same seed, and descends
    ``lambda_l1`` times the mean absolute error. The weight stays in the loss although Adam does
    not see it, so that a strategy's term stands beside gradients of the size that it was tuned for.
    """

    def __init__(self, model: ModelConfig, training: TrainingConfig, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = build_networks(model, seed)["generator"]
        self._lambda_l1 = model.lambda_l1
        self._training_config = training

    def forward(self, source: Tensor) -> Tensor:
        """Translate slices (batch, 1, rows, columns) in [-1, 1]."""
        translated: Tensor = self.generator(source)
        return translated

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimizer for the generator."""
        return network_optimizers(self, MODELS["regression"], self._training_config)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of the generator; returns the losses."""
        optimizer: Any = self.optimizers()
        l1 = self._l1(batch)
        loss = self._lambda_l1 * l1
        step(self, loss, optimizer)
        losses = {"train/loss_generator": loss.detach(), "train/l1": l1.detach()}
        if self.trainer.loggers:
            self.log_dict(losses)
        return losses

    def network_losses(self) -> dict[str, Callable[[Batch], Tensor]]:
        """The loss that the generator descends, on any batch by itself."""
        return {"generator": lambda batch: self._lambda_l1 * self._l1(batch)}

    def _l1(self, batch: Batch) -> Tensor:
        return l1_loss(self.generator(batch["source"]), batch["target"])
