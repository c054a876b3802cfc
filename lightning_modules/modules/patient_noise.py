"""A model's networks trained with patient-level differential privacy, as a LightningModule."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.data.patients import Draws
from lightning_modules.model_networks import MODELS
from lightning_modules.privacy.patient_noise import noised_gradient
from lightning_modules.privacy.patient_settings import PatientNoise, refuse_statistics
from lightning_modules.privacy.update_noise import Noise


class PatientNoiseModule(pl.LightningModule):
    """Takes another module's networks, losses and optimizers, and bounds what a patient moves.

    Every network in its turn gets the noised gradient of the patients who were drawn for it, the
    generator under the discriminator that has just learnt. What strategies add to gradients is
    added behind the noise, and so are the optimizers' moments: they see no more than what leaves.

    A step gives back the norms of its noised gradients and no loss: a loss is patients' data that
    no noise covers, and what is not there cannot leave.

    Args:
        plain: the model's module; it says with ``network_losses`` what its networks descend.
        model: name of the model.
        settings: clipping and noise.
        noise: draws standard normal values.

    Raises:
        ConfigError: a network notes something of its inputs, as batch normalisation does.
    """

    def __init__(
        self, plain: pl.LightningModule, model: str, settings: PatientNoise, noise: Noise
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._roles = MODELS[model].roles
        for name in self._roles:
            self.add_module(name, getattr(plain, name))
        buffers = [(name, buffer.is_floating_point()) for name, buffer in self.named_buffers()]
        refuse_statistics(buffers, f"model '{model}'")
        bound: Any = plain
        self._losses = bound.network_losses()
        self._network_optimizers = bound.configure_optimizers
        self._settings = settings
        self._clipping = settings.clipping(model)
        self._noise = noise

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimizer for every network, as the model has them."""
        optimizers: list[Optimizer] = self._network_optimizers()
        return optimizers

    def training_step(self, batch: Draws, batch_idx: int) -> dict[str, Tensor]:
        """One step of every network.

        Args:
            batch: for every network the slices of each patient who was drawn for it.
            batch_idx: not used.
        """
        optimizers: Any = self.optimizers()
        listed = optimizers if isinstance(optimizers, list) else [optimizers]
        by_network = dict(zip(self._roles, listed, strict=True))
        norms = {}
        for network, loss in self._losses.items():
            parameters = [p for p in getattr(self, network).parameters() if p.requires_grad]
            if not parameters:
                continue
            gradient = noised_gradient(
                loss,
                parameters,
                batch[network],
                clipping=self._clipping[network],
                noise_multiplier=self._settings.noise_multiplier,
                expected_patients=self._settings.expected_patients,
                noise=self._noise,
            )
            for parameter, part in zip(parameters, gradient, strict=True):
                parameter.grad = part
            norms[f"train/noised_gradient_{network}"] = torch.stack(
                torch._foreach_norm(gradient)
            ).norm()
            by_network[network].step()
            by_network[network].zero_grad()
        return norms
