"""The adversarial loss of the discriminator and the generator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss


class AdversarialLoss(nn.Module):
    """LSGAN or cross-entropy GAN loss on patch logits.

    ``lsgan``: mean((logit - label)^2), label 1 for real, 0 for fake (Mao et al., ICCV 2017,
    doi:10.1109/ICCV.2017.304). ``bce``: binary cross-entropy of sigmoid(logit) (Goodfellow et al.
    2014); the generator maximises the probability of being taken for real.

    Both work on raw logits. MONAI's PatchAdversarialLoss is not used: its cross-entropy takes the
    sigmoid first, which in float32 is exactly 1 from a logit of 17 on, so that a fake of logit 20
    costs 100 in place of 20 and gives no gradient; its least squares add a LeakyReLU by default.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "lsgan": mse_loss,
            "bce": binary_cross_entropy_with_logits,
        }
        self._loss = losses[kind]

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Half the sum of the losses on real and fake logits, any shape; returns a scalar."""
        on_real = self._loss(real, torch.ones_like(real))
        on_fake = self._loss(fake, torch.zeros_like(fake))
        return 0.5 * (on_real + on_fake)

    def generator(self, fake: Tensor) -> Tensor:
        """Loss of the generator on the logits of its own output; returns a scalar."""
        return self._loss(fake, torch.ones_like(fake))
