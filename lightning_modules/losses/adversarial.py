"""The adversarial loss of the discriminator and the generator."""

from __future__ import annotations

from monai.losses import PatchAdversarialLoss
from torch import Tensor, nn


class AdversarialLoss(nn.Module):
    """LSGAN or cross-entropy GAN loss on patch logits.

    ``lsgan``: mean((logit - label)^2), label 1 for real, 0 for fake (Mao et al., ICCV 2017,
    doi:10.1109/ICCV.2017.304). ``bce``: binary cross-entropy of sigmoid(logit) (Goodfellow et al.
    2014); the generator maximises the probability of being taken for real.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        # no_activation_leastsq: MONAI otherwise passes LSGAN logits through a LeakyReLU.
        self.loss = PatchAdversarialLoss(
            criterion={"lsgan": "least_squares", "bce": "bce"}[kind],
            no_activation_leastsq=True,
            reduction="mean",
        )

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Half the sum of the losses on real and fake logits, any shape; returns a scalar."""
        on_real: Tensor = self.loss(real, target_is_real=True, for_discriminator=True)
        on_fake: Tensor = self.loss(fake, target_is_real=False, for_discriminator=True)
        return 0.5 * (on_real + on_fake)

    def generator(self, fake: Tensor) -> Tensor:
        """Loss of the generator on the logits of its own output; returns a scalar."""
        loss: Tensor = self.loss(fake, target_is_real=True, for_discriminator=False)
        return loss
