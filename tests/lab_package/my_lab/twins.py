"""A module that does what FedI2I's own regression does, written without it."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.nn.functional import l1_loss
from torch.optim import Adam, Optimizer

from my_lab.modules import Bounded
from my_lab.nets import MyGenerator


class MyRegression(pl.LightningModule):
    """A hundred times the mean absolute error; what it counts outlives no round."""

    def __init__(self, channels: int = 8, blocks: int = 2) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = Bounded(MyGenerator(channels, blocks))
        self._taken = 0

    def configure_optimizers(self) -> dict[str, Optimizer]:  # type: ignore[override]
        """Adam with pix2pix's moments."""
        return {"generator": Adam(self.generator.parameters(), 2e-3, betas=(0.5, 0.999))}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """One step, which would be another one if it knew of earlier rounds."""
        assert self._taken == batch_idx
        self._taken += 1
        optimizer: Any = self.optimizers()
        l1 = l1_loss(self.generator(batch["source"]), batch["target"])
        optimizer.zero_grad()
        self.manual_backward(100 * l1)
        optimizer.step()
        return {"train/loss_generator": 100 * l1, "train/l1": l1}
