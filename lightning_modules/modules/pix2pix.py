"""pix2pix as a LightningModule: manual optimisation with one optimizer per network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.configuration import ModelConfig, TrainingConfig
from lightning_modules.data.slices import Batch
from lightning_modules.losses.adversarial import AdversarialLoss
from lightning_modules.model_networks import MODELS
from lightning_modules.modules.optimization import frozen, network_optimizers, step
from lightning_modules.networks.building import build_networks


class Pix2PixModule(pl.LightningModule):
    """Conditional GAN with an L1 term (Isola et al., CVPR 2017, doi:10.1109/CVPR.2017.632).

    Keys of the state_dict start with ``generator.`` or ``discriminator.``; nothing else is
    registered, so the state_dict holds what may be shared and no more.
    """

    def __init__(self, model: ModelConfig, training: TrainingConfig, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        networks = build_networks(model, seed)
        self.generator = networks["generator"]
        self.discriminator = networks["discriminator"]
        self.adversarial = AdversarialLoss(model.adversarial_loss)
        self._lambda_l1 = model.lambda_l1
        self._training_config = training

    def forward(self, source: Tensor) -> Tensor:
        """Translate slices (batch, 1, rows, columns) in [-1, 1]."""
        translated: Tensor = self.generator(source)
        return translated

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimizer for the generator, one for the discriminator."""
        return network_optimizers(self, MODELS["pix2pix"], self._training_config)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of the discriminator, then one of the generator; returns the losses."""
        source, target = batch["source"], batch["target"]
        generator_optimizer, discriminator_optimizer = self._optimizers()
        translated = self.generator(source)
        loss_discriminator = self._judging(source, target, translated.detach())
        step(self, loss_discriminator, discriminator_optimizer)
        losses = self._translating(source, target, translated)
        step(self, losses["train/loss_generator"], generator_optimizer)
        losses["train/loss_discriminator"] = loss_discriminator
        losses = {name: loss.detach() for name, loss in losses.items()}
        if self.trainer.loggers:
            self.log_dict(losses)
        return losses

    def network_losses(self) -> dict[str, Callable[[Batch], Tensor]]:
        """The loss that each network descends, on any batch by itself, in the order of the steps.

        They are those of ``training_step``, where both networks share a batch and a translation.
        """
        return {"discriminator": self._loss_of_discriminator, "generator": self._loss_of_generator}

    def _loss_of_discriminator(self, batch: Batch) -> Tensor:
        source, target = batch["source"], batch["target"]
        with torch.no_grad():
            translated = self.generator(source)
        return self._judging(source, target, translated)

    def _loss_of_generator(self, batch: Batch) -> Tensor:
        source, target = batch["source"], batch["target"]
        return self._translating(source, target, self.generator(source))["train/loss_generator"]

    def _judging(self, source: Tensor, target: Tensor, translated: Tensor) -> Tensor:
        return self.adversarial.discriminator(
            real=self.discriminator(source, target), fake=self.discriminator(source, translated)
        )

    def _translating(self, source: Tensor, target: Tensor, translated: Tensor) -> dict[str, Tensor]:
        # The discriminator only judges here: its parameters need no gradients.
        with frozen(self.discriminator.parameters()):
            adversarial = self.adversarial.generator(self.discriminator(source, translated))
        l1 = torch.nn.functional.l1_loss(translated, target)
        return {
            "train/loss_generator": adversarial + self._lambda_l1 * l1,
            "train/loss_adversarial": adversarial,
            "train/l1": l1,
        }

    def _optimizers(self) -> tuple[Any, Any]:
        optimizers: Any = self.optimizers()
        return optimizers[0], optimizers[1]
