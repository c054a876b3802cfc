"""Regression as a LightningModule: pix2pix's generator with the L1 term alone."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import l1_loss

from lightning_modules.configuration import TrainingConfig
from lightning_modules.data.slices import Batch
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.modules.optimization import step
from lightning_modules.modules.translation import TranslationModule


class RegressionModule(TranslationModule):
    """pix2pix without its adversary: no discriminator is built, trained or sent.

    The generator starts from the weights that it has in pix2pix with the same seed, and descends
    ``lambda_l1`` times the mean absolute error. The weight stays in the loss although Adam does
    not see it, so that a strategy's term stands beside gradients of the size that it was tuned for.
    """

    generator: nn.Module

    def __init__(self, model: ModelConfig, training: TrainingConfig, seed: int) -> None:
        super().__init__(model, training, seed)
        self._lambda_l1 = model.lambda_l1

    def take_steps(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the generator."""
        l1 = self._l1(batch)
        loss = self._lambda_l1 * l1
        step(self, loss, self.named_optimizers()["generator"])
        return {"train/loss_generator": loss, "train/l1": l1}

    def network_losses(self) -> dict[str, Callable[[Batch], Tensor]]:
        """The loss that the generator descends, on any batch by itself."""
        return {"generator": lambda batch: self._lambda_l1 * self._l1(batch)}

    def _l1(self, batch: Batch) -> Tensor:
        return l1_loss(self.generator(batch["source"]), batch["target"])
