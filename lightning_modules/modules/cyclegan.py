"""CycleGAN as a LightningModule: manual optimisation with one optimizer per network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from lightning_modules.configuration import TrainingConfig
from lightning_modules.data.slices import Batch
from lightning_modules.losses.adversarial import AdversarialLoss
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.modules.optimization import frozen, step
from lightning_modules.modules.translation import TranslationModule
from lightning_modules.seeding import derive_seed
from partitions.preparation.configuration import DOMAINS


@dataclass(frozen=True)
class _Direction:
    """What translates the slices of one domain, brings them back, and judges the translations."""

    there: nn.Module
    back: nn.Module
    judge: nn.Module


class CycleGANModule(TranslationModule):
    """Unpaired translation with a cycle (Zhu et al., ICCV 2017, doi:10.1109/ICCV.2017.244).

    A is the source domain, B the target domain. Every domain in the batch starts one direction;
    with ``there`` and ``back`` its two generators and D the discriminator of the other domain

        L(x) = GAN(D(there(x))) + lambda_cycle * (|back(there(x)) - x|
                                                  + lambda_identity * |back(x) - x|)

    and the generators descend the sum over the directions. Each discriminator then learns from
    real slices of its domain and from translations, new ones and ones of earlier steps. It needs
    both domains for that: a batch with one domain trains the generators alone, and the
    discriminators judge as they were received.
    """

    generator_ab: nn.Module
    generator_ba: nn.Module
    discriminator_a: nn.Module
    discriminator_b: nn.Module

    def __init__(self, model: ModelConfig, training: TrainingConfig, seed: int) -> None:
        super().__init__(model, training, seed)
        self.adversarial = AdversarialLoss(model.adversarial_loss)
        self._lambda_cycle = model.lambda_cycle
        self._lambda_identity = model.lambda_identity
        self._shown_again = {domain: ImageBuffer(model.image_buffer) for domain in DOMAINS}

    def on_train_start(self) -> None:
        """Start the round with empty buffers.

        They hold pictures made from patients and must not outlive what they are for; and a round
        must depend on what the site received, not on what its process did before. The draws hang
        on the seed that the learner set for this round, and not on how often it was used since.
        """
        self._empty_buffers()

    def on_train_end(self) -> None:
        """Leave no pictures behind in a process that waits for its next task."""
        self._empty_buffers()
        self._judges_learn(True)

    def take_steps(self, batch: Batch) -> dict[str, Tensor]:
        """One step of both generators, then one of both discriminators."""
        optimizers = self.named_optimizers()
        both = all(domain in batch for domain in DOMAINS)
        self._judges_learn(both)
        losses, translated = self._step_generators(
            batch, optimizers["generator_ab"], optimizers["generator_ba"]
        )
        if both:
            losses |= self._step_discriminators(
                batch, translated, optimizers["discriminator_a"], optimizers["discriminator_b"]
            )
        return losses

    def _step_generators(
        self, batch: Batch, *optimizers: Any
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the losses, and the translations by the domain they were made from."""
        translated: dict[str, Tensor] = {}
        terms: dict[str, list[Tensor]] = {"adversarial": [], "cycle": [], "identity": []}
        # The discriminators only judge here: their parameters need no gradients.
        with frozen([*self.discriminator_a.parameters(), *self.discriminator_b.parameters()]):
            for domain, real in batch.items():
                direction = self._direction(domain)
                fake = translated[domain] = direction.there(real)
                terms["adversarial"].append(self.adversarial.generator(direction.judge(fake)))
                terms["cycle"].append(l1_loss(direction.back(fake), real))
                if self._lambda_identity:
                    terms["identity"].append(l1_loss(direction.back(real), real))
        sums = {name: torch.stack(values).sum() for name, values in terms.items() if values}
        loss = self._total(sums)
        step(self, loss, *optimizers)
        names = {"adversarial": "loss_adversarial"}
        losses = {f"train/{names.get(name, name)}": value for name, value in sums.items()}
        return {"train/loss_generator": loss, **losses}, translated

    def _total(self, sums: Mapping[str, Tensor]) -> Tensor:
        total = sums["adversarial"] + self._lambda_cycle * sums["cycle"]
        if "identity" in sums:
            total = total + self._lambda_cycle * self._lambda_identity * sums["identity"]
        return total

    def _step_discriminators(
        self, batch: Batch, translated: Mapping[str, Tensor], *optimizers: Any
    ) -> dict[str, Tensor]:
        losses = []
        for domain, other in (DOMAINS, DOMAINS[::-1]):
            judge = self._direction(domain).judge
            fake = self._shown_again[domain].exchange(translated[domain])
            losses.append(
                self.adversarial.discriminator(real=judge(batch[other]), fake=judge(fake))
            )
        loss = torch.stack(losses).sum()
        step(self, loss, *optimizers)
        return {"train/loss_discriminator": loss}

    def _direction(self, domain: str) -> _Direction:
        if domain == "source":
            return _Direction(self.generator_ab, self.generator_ba, self.discriminator_b)
        return _Direction(self.generator_ba, self.generator_ab, self.discriminator_a)

    def _judges_learn(self, learn: bool) -> None:
        # One that does not learn must not gather statistics in batch normalisation either.
        self.discriminator_a.train(learn)
        self.discriminator_b.train(learn)

    def _empty_buffers(self) -> None:
        for domain, buffer in self._shown_again.items():
            buffer.empty(derive_seed(torch.initial_seed(), "image buffer", domain))


class ImageBuffer:
    """A history of translations (Shrivastava et al., CVPR 2017, arXiv:1612.07828, section 2.3).

    A discriminator that sees the newest translations alone forgets what it knew to be fake, and
    the generator returns to it. As in CycleGAN (Zhu et al. 2017, section 4) a new slice is shown
    as it is with probability 1/2; otherwise it takes the place of a stored one, which is shown.
    Until the buffer is full every slice is stored and shown.

    The buffer holds pictures made from patients. It is a plain object and no part of any
    state_dict, so that nothing that is shared, kept or saved can contain it.

    Args:
        capacity: slices held; with 0 every slice is shown as it is.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._stored: list[Tensor] = []
        self._random = torch.Generator()

    def empty(self, seed: int) -> None:
        """Forget all slices and start the random draws anew."""
        self._stored = []
        self._random.manual_seed(seed)

    def exchange(self, images: Tensor) -> Tensor:
        """The slices to show in place of new ones.

        Args:
            images: translations (n, 1, rows, columns); no gradient flows back through them.

        Returns:
            The same shape.
        """
        if self._capacity == 0 or not len(images):
            return images.detach()
        return torch.stack([self._shown(image) for image in images.detach()])

    def _shown(self, image: Tensor) -> Tensor:
        if len(self._stored) < self._capacity:
            self._stored.append(image.clone())
            return image
        if float(torch.rand((), generator=self._random)) < 0.5:
            return image
        place = int(torch.randint(self._capacity, (), generator=self._random))
        earlier = self._stored[place]
        self._stored[place] = image.clone()
        return earlier
