"""A Lightning module of a lab: its networks, their losses, and an optimizer for each."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss
from torch.optim import Adam, Optimizer

from my_lab.nets import MyDiscriminator, MyGenerator


class Bounded(nn.Module):
    """A generator whose values lie in [-1, 1], as those of slices do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, source: Tensor) -> Tensor:
        """Translate slices (n, 1, rows, columns)."""
        return torch.tanh(self.network(source))

    def encoder_modules(self) -> tuple[str, ...]:
        """What FedPer shares and LG-FedAvg keeps."""
        return ("network.encoder",)


class MyTranslation(pl.LightningModule):
    """A generator that learns from the target and from a judge of patches.

    Args:
        channels: of both networks' first levels.
        rate: learning rate of the generator; that of the judge is a quarter of it.
        weight: of the target beside the judge.
    """

    def __init__(self, channels: int = 8, rate: float = 2e-3, weight: float = 100.0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = Bounded(MyGenerator(channels))
        self.discriminator = MyDiscriminator(channels)
        self._rate, self._weight = rate, weight

    def configure_optimizers(self) -> dict[str, Optimizer]:  # type: ignore[override]
        """An optimizer for each network, under its name."""
        return {
            "generator": Adam(self.generator.parameters(), self._rate, betas=(0.5, 0.999)),
            "discriminator": Adam(self.discriminator.parameters(), self._rate / 4),
        }

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """One step of each network.

        Args:
            batch: ``source`` (n, 1, rows, columns) and ``target``, values in [-1, 1].
            batch_idx: not used.
        """
        optimizers: Any = self.optimizers()  # in the order of model.module.networks
        of_generator, of_discriminator = optimizers
        source, target = batch["source"], batch["target"]
        translated = self.generator(source)
        real, fake = (self.discriminator(source, one) for one in (target, translated.detach()))
        judging = mse_loss(real, torch.ones_like(real)) + mse_loss(fake, torch.zeros_like(fake))
        self._step(of_discriminator, judging)
        judged = self.discriminator(source, translated)
        l1 = l1_loss(translated, target)
        loss = mse_loss(judged, torch.ones_like(judged)) + self._weight * l1
        self._step(of_generator, loss)
        return {"train/loss_generator": loss, "train/l1": l1, "train/loss_discriminator": judging}

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
