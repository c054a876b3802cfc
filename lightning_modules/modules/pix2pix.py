"""pix2pix as a LightningModule: manual optimisation with one optimizer per network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.configuration import TrainingConfig
from lightning_modules.data.slices import Batch
from lightning_modules.losses.adversarial import AdversarialLoss
from lightning_modules.losses.feature_matching import feature_matching
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.modules.optimization import frozen, step
from lightning_modules.modules.translation import TranslationModule


class Pix2PixModule(TranslationModule):
    """Conditional GAN with an L1 term (Isola et al., CVPR 2017, doi:10.1109/CVPR.2017.632).

    Where ``lambda_features`` is above 0 the generator descends

        adversarial + lambda_l1 * L1 + lambda_features * feature matching
    """

    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, model: ModelConfig, training: TrainingConfig, seed: int) -> None:
        super().__init__(model, training, seed)
        self.adversarial = AdversarialLoss(model.adversarial_loss)
        self._lambda_l1 = model.lambda_l1
        self._lambda_features = model.lambda_features

    def take_steps(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the discriminator, then one of the generator."""
        source, target = batch["source"], batch["target"]
        optimizers = self.named_optimizers()
        translated = self.generator(source)
        loss_discriminator = self._judging(source, target, translated.detach())
        step(self, loss_discriminator, optimizers["discriminator"])
        losses = self._translating(source, target, translated)
        step(self, losses["train/loss_generator"], optimizers["generator"])
        return {**losses, "train/loss_discriminator": loss_discriminator}

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
            logits, seen = self._seen(source, target, translated)
        adversarial = self.adversarial.generator(logits)
        l1 = torch.nn.functional.l1_loss(translated, target)
        loss = adversarial + self._lambda_l1 * l1
        for value in seen.values():
            loss = loss + self._lambda_features * value
        return {
            "train/loss_generator": loss,
            "train/loss_adversarial": adversarial,
            "train/l1": l1,
            **seen,
        }

    def _seen(
        self, source: Tensor, target: Tensor, translated: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits of the translation, and the feature matching where it has a weight."""
        if not self._lambda_features:
            return self.discriminator(source, translated), {}
        judge: Any = self.discriminator
        *features, logits = judge.layers(source, translated)
        with torch.no_grad():
            *of_real, _ = judge.layers(source, target)
        return logits, {"train/feature_matching": feature_matching(of_real, features)}
