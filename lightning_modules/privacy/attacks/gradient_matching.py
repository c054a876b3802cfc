"""Iterative inversion: seek images whose gradient is the one that was seen.

Geiping et al. (NeurIPS 2020, arXiv:2003.14053), for a translation GAN: the images are moved by Adam
until the cosine between their gradient and the seen one is small in every array, with total
variation as the prior. The attacker knows the architecture, the received weights and the losses.
What helped when it was measured: a cosine per array and not over all, coarse grids before the fine
one, a start at another hospital's mean image, and, where the source is known, the signs that the
linear attack finds (``linear_inversion``), as bounds of the target.

The derivative of the L1 term, sign(f - y), has no derivative of its own by y; tanh((f - y) / tau)
stands in its place, and tau shrinks.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, softplus

from lightning_modules.losses.adversarial import AdversarialLoss
from lightning_modules.model_configuration import ModelConfig

_NEGLIGIBLE = 1e-5
"""Arrays with less than this share of the whole gradient hold nothing but rounding: biases in front
of instance normalisation."""


@dataclass(frozen=True)
class Search:
    """How long and how finely to seek.

    Attributes:
        coarseness: the grids, one after the other: 4 stands for a quarter of rows and columns.
        iterations: of Adam, on every grid.
        rate: Adam's learning rate, in intensities of [-1, 1].
        total_variation: weight of the prior.
        smoothing: first and last tau of the L1 term.
    """

    coarseness: tuple[int, ...] = (4, 2, 1)
    iterations: int = 40
    rate: float = 0.1
    total_variation: float = 0.1
    smoothing: tuple[float, float] = (0.1, 0.01)


@dataclass(frozen=True)
class Reconstruction:
    """What was found.

    Attributes:
        source: (1, 1, rows, columns) in [-1, 1].
        target: the same.
        left: mean over arrays of 1 - cosine at the end: 0 where the gradient is explained.
    """

    source: Tensor
    target: Tensor
    left: float


def match_gradients(
    networks: Mapping[str, nn.Module],
    model: ModelConfig,
    seen: Mapping[str, Tensor],
    start: tuple[Tensor, Tensor],
    source_known: bool,
    search: Search = Search(),
    signs: Tensor | None = None,
) -> Reconstruction:
    """Seek the source and the target of an update.

    Args:
        networks: ``generator`` as received; where there is one, ``discriminator`` as received, and
            ``judge``, the discriminator after its step, which the generator's loss met.
        model: its losses.
        seen: the gradient by key, ``generator.…`` and, where it is shared, ``discriminator.…``; up
            to a positive factor per network.
        start: source and target (1, 1, rows, columns) in [-1, 1] to start from.
        source_known: whether ``start`` holds the true source, which then stays.
        search: see there.
        signs: (rows, columns), 1.0 where the output for the known source is above the target and
            -1.0 where it is below; None where nobody knows.
    """
    losses = _Losses({name: copy.deepcopy(net) for name, net in networks.items()}, model)
    if signs is not None:
        with torch.no_grad():
            losses.bound = (signs, networks["generator"](start[0]))
    images = list(start)
    sought = (1,) if source_known else (0, 1)
    left = 1.0
    for level, factor in enumerate(search.coarseness):
        share = level / max(1, len(search.coarseness) - 1)
        first, last = search.smoothing
        tau = first * (last / first) ** share
        images, left = _on_one_grid(losses, seen, images, sought, factor, tau, search)
    return Reconstruction(images[0].detach(), images[1].detach(), left)


def _on_one_grid(
    losses: _Losses,
    seen: Mapping[str, Tensor],
    images: Sequence[Tensor],
    sought: Sequence[int],
    factor: int,
    tau: float,
    search: Search,
) -> tuple[list[Tensor], float]:
    size = tuple(images[1].shape[-2:])
    grid = tuple(max(1, side // factor) for side in size)
    unknown = [_resized(images[index], grid).detach().requires_grad_() for index in sought]
    optimizer = torch.optim.Adam(unknown, lr=search.rate)
    left = 1.0
    for _ in range(search.iterations):
        drawn = losses.drawn(images, sought, unknown)
        distance = _distance(losses.gradients(drawn[0], drawn[1], tau), seen)
        left = float(distance.detach())
        rough = sum((_total_variation(drawn[index]) for index in sought), torch.zeros(()))
        optimizer.zero_grad()
        parts = torch.autograd.grad(distance + search.total_variation * rough, unknown)
        for value, part in zip(unknown, parts, strict=True):
            value.grad = part
        optimizer.step()
        with torch.no_grad():
            for value in unknown:
                value.clamp_(-1.0, 1.0)
    return [image.detach() for image in losses.drawn(images, sought, unknown)], left


class _Losses:
    """The gradients that a pair of images gives, as the training step computes them."""

    def __init__(self, networks: Mapping[str, nn.Module], model: ModelConfig) -> None:
        self._networks = networks
        self._lambda_l1 = model.lambda_l1
        self._adversarial = AdversarialLoss(model.adversarial_loss)
        self.bound: tuple[Tensor, Tensor] | None = None

    def drawn(
        self, images: Sequence[Tensor], sought: Sequence[int], unknown: Sequence[Tensor]
    ) -> list[Tensor]:
        """Source and target, with what is sought brought to full size and within its bounds."""
        found = list(images)
        for index, value in zip(sought, unknown, strict=True):
            found[index] = _resized(value, images[index].shape[-2:])
        if self.bound is not None:
            signs, output = self.bound
            below, above = torch.minimum(found[1], output), torch.maximum(found[1], output)
            found[1] = torch.where(signs > 0, below, above)
        return found

    def gradients(self, source: Tensor, target: Tensor, tau: float) -> dict[str, Tensor]:
        generator = self._networks["generator"]
        translated = generator(source)
        error = translated - target
        # tau log cosh(e / tau), whose derivative is tanh(e / tau).
        smooth = tau * (softplus(2 * error / tau) - error / tau).mean()
        loss = self._lambda_l1 * smooth
        judge = self._networks.get("judge")
        if judge is not None:
            loss = loss + self._adversarial.generator(judge(source, translated))
        found = _gradient("generator", generator, loss)
        discriminator = self._networks.get("discriminator")
        if discriminator is not None:
            judged = self._adversarial.discriminator(
                real=discriminator(source, target), fake=discriminator(source, translated.detach())
            )
            found |= _gradient("discriminator", discriminator, judged)
        return found


def _gradient(name: str, network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    named = dict(network.named_parameters())
    parts = torch.autograd.grad(loss, list(named.values()), create_graph=True)
    return {f"{name}.{key}": part for key, part in zip(named, parts, strict=True)}


def _distance(found: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> Tensor:
    """Mean over arrays of 1 - cosine, as far as an array has a part in its network's gradient."""
    norms = {key: float(value.norm()) for key, value in seen.items()}
    whole: dict[str, float] = {}
    for key, norm in norms.items():
        network = key.partition(".")[0]
        whole[network] = whole.get(network, 0.0) + norm**2
    parts = [
        1 - torch.cosine_similarity(found[key].flatten(), value.flatten(), dim=0, eps=1e-20)
        for key, value in seen.items()
        if key in found and norms[key] > _NEGLIGIBLE * whole[key.partition(".")[0]] ** 0.5
    ]
    return torch.stack(parts).mean()


def _total_variation(image: Tensor) -> Tensor:
    return image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return interpolate(image, size=tuple(size), mode="bilinear", align_corners=False)
