"""One generator for many pairs of contrasts, of which every site holds one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from lightning_modules.configuration import TrainingConfig
from lightning_modules.data.contrast_draws import SOURCE_CODE, TARGET_CODE, THIRD_CODE
from lightning_modules.data.slices import Batch
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.modules.optimization import step
from lightning_modules.modules.translation import TranslationModule


class ConditionalModule(TranslationModule):
    """L1 between contrasts that codes name, and the pseudo-source term.

    For a slice in contrasts a and b, and a third contrast c that it was not acquired in, the
    generator G descends ``lambda_l1`` times

        |G(x_a, a to b) - x_b| + pseudo_source * |G(G(x_a, a to c), c to b) - x_b|

    where the inner translation passes no gradient. The second term trains the pair from c to b
    against real targets where nobody holds it, as back-translation does for languages (Sennrich
    et al., ACL 2016, arXiv:1511.06709).
    """

    generator: Any

    def __init__(self, model: ModelConfig, training: TrainingConfig, seed: int) -> None:
        super().__init__(model, training, seed)
        self._lambda_l1 = model.lambda_l1
        self._pseudo_source = model.pseudo_source

    def take_steps(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the generator."""
        l1 = l1_loss(
            self.generator(batch["source"], batch[SOURCE_CODE], batch[TARGET_CODE]),
            batch["target"],
        )
        losses = {"train/l1": l1}
        loss = l1
        if THIRD_CODE in batch and self._pseudo_source:
            losses["train/pseudo_source"] = self._from_third(batch)
            loss = loss + self._pseudo_source * losses["train/pseudo_source"]
        loss = self._lambda_l1 * loss
        step(self, loss, self.named_optimizers()["generator"])
        return {"train/loss_generator": loss, **losses}

    def _from_third(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            third = self.generator(batch["source"], batch[SOURCE_CODE], batch[THIRD_CODE])
        translated = self.generator(third, batch[THIRD_CODE], batch[TARGET_CODE])
        return l1_loss(translated, batch["target"])
