"""What the Lightning modules of all translation models do alike."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.configuration import TrainingConfig
from lightning_modules.data.slices import Batch
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.modules.optimization import network_optimizers
from lightning_modules.networks.building import build_networks


class TranslationModule(pl.LightningModule):
    """A model's networks under their names, one named optimizer for each, manual optimisation.

    A subclass declares the networks that it uses by name and says with ``take_steps`` what a
    training step is. Keys of the state_dict start with the networks' names; nothing else is
    registered, so the state_dict holds what may be shared and no more.

    Args:
        model: which networks; its name is an entry of ``MODELS``.
        training: kind of optimizer and learning rates.
        seed: of the first weights.
    """

    def __init__(self, model: ModelConfig, training: TrainingConfig, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._networks = model.described
        self._training_config = training
        for name, network in build_networks(model, seed).items():
            self.add_module(name, network)

    def forward(self, source: Tensor) -> Tensor:
        """Translate source slices (batch, channels, rows, columns) in [-1, 1] to the target."""
        translated: Tensor = getattr(self, self._networks.translator)(source)
        return translated

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimizer for every network."""
        return network_optimizers(self, self._networks, self._training_config)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step of every network that the batch trains.

        Args:
            batch: slices in [-1, 1] under ``source``, ``target`` or both, see
                ``TrainingSlices.batch``.
            batch_idx: not used.

        Returns:
            The losses that ``MODELS`` lists, without gradients.
        """
        losses = {name: loss.detach() for name, loss in self.take_steps(batch).items()}
        if self.trainer.loggers:
            self.log_dict(losses)
        return losses

    def take_steps(self, batch: Batch) -> dict[str, Tensor]:
        """Step the networks' optimizers; returns the losses by their names in ``MODELS``."""
        raise NotImplementedError

    def named_optimizers(self) -> dict[str, Any]:
        """Each network's optimizer, as Lightning wraps it."""
        found: Any = self.optimizers()
        every = found if isinstance(found, list) else [found]
        return dict(zip(self._networks.names, every, strict=True))
