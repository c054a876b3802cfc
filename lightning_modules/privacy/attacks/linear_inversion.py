"""The linear attack: a generator's gradient of one slice tells where the output is too bright.

Whoever knows the source image knows all activations, so that the generator's gradient is a linear
map of the loss's derivative by the output: g = J(x)' delta, far more equations than pixels. The
adversarial part of delta is known with the discriminator. For an L1 term delta is lambda / N times
the sign of output minus target: least squares give that sign at every pixel, which is a contour
drawing of the target, without a prior and within seconds. An L2 term would give the target itself.

The attacker is a server, or a site with the server's messages, that holds the source image; a job
of one step on one slice with SGD makes the update the exact gradient.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_modules.losses.adversarial import AdversarialLoss
from lightning_modules.model_configuration import ModelConfig

MOST_ITERATIONS = 400
_SOLVED = 1e-12
"""Share of the gradient's norm below which nothing is left to explain."""


@dataclass(frozen=True)
class SignRates:
    """How much of the target's contour drawing is right, in shares of the pixels.

    Attributes:
        everywhere: of all pixels.
        inside: of the pixels inside the mask.
        guess: what one gets for taking the commoner sign everywhere.
    """

    everywhere: float
    inside: float
    guess: float


def error_signs(
    networks: Mapping[str, nn.Module],
    model: ModelConfig,
    source: Tensor,
    gradient: Mapping[str, Tensor],
    noise_norm: float = 0.0,
    most_iterations: int = MOST_ITERATIONS,
) -> Tensor:
    """Where the output is above the target, from the generator's gradient.

    Conjugate gradients on the normal equations, with products by J and its transpose alone; they
    stop where what is left is as long as the noise that the attacker knows was added.

    Args:
        networks: ``generator`` as it was received, and, where there is one, ``discriminator`` as it
            judged; they are not changed.
        model: its losses.
        source: the slice (1, 1, rows, columns) in [-1, 1].
        gradient: the generator's gradient by key of its own state_dict, up to a positive factor.
        noise_norm: Euclidean norm of the noise on the gradient, in its units.
        most_iterations: of conjugate gradients.

    Returns:
        (rows, columns), 1.0 where the output is above the target and -1.0 where it is below.
    """
    jacobian = _OutputJacobian(copy.deepcopy(networks["generator"]).double(), source.double())
    known = torch.cat([gradient[key].double().flatten() for key in jacobian.keys])
    delta = _least_squares(jacobian, known, noise_norm, most_iterations)
    judge = networks.get("discriminator")
    if judge is not None and model.lambda_l1 > 0:
        judged = _adversarial_part(
            copy.deepcopy(judge).double(), model, source.double(), jacobian.output.detach()
        )
        # Clipping may have scaled the gradient: the L1 part has one absolute value everywhere.
        scale = delta.abs().median() * delta.numel() / model.lambda_l1
        delta = delta - scale * judged
    return torch.where(delta > 0, 1.0, -1.0)[0, 0].float()


def sign_rates(signs: Tensor, output: Tensor, target: Tensor, mask: Tensor) -> SignRates:
    """Hold the attack's signs against the truth.

    Args:
        signs: what ``error_signs`` gave.
        output: the generator's output, same shape.
        target: the true target, same shape and scale as the output.
        mask: same shape, true inside the head or brain.
    """
    truth = torch.where(output > target, 1.0, -1.0)
    right = signs == truth
    above = float((truth > 0).double().mean())
    return SignRates(
        float(right.double().mean()), float(right[mask].double().mean()), max(above, 1 - above)
    )


class _OutputJacobian:
    """Products with the derivative of a generator's output by its parameters, from one graph."""

    def __init__(self, generator: nn.Module, source: Tensor) -> None:
        named = [(key, value.requires_grad_()) for key, value in generator.named_parameters()]
        self.keys = [key for key, _ in named]
        self._parameters = [value for _, value in named]
        self.output: Tensor = generator(source)
        self._direction = torch.zeros_like(self.output, requires_grad=True)
        self._pulled = torch.autograd.grad(
            self.output, self._parameters, self._direction, create_graph=True
        )

    def transposed(self, delta: Tensor) -> Tensor:
        """J' delta, for a delta of the output's shape: one vector over all parameters."""
        pulled = torch.autograd.grad(self.output, self._parameters, delta, retain_graph=True)
        return torch.cat([part.flatten() for part in pulled])

    def times(self, vector: Tensor) -> Tensor:
        """J vector, of the output's shape: the derivative of J' d by d, applied to the vector."""
        sizes = [value.numel() for value in self._parameters]
        parts = [
            part.view_as(value)
            for part, value in zip(torch.split(vector, sizes), self._parameters, strict=True)
        ]
        (product,) = torch.autograd.grad(self._pulled, self._direction, parts, retain_graph=True)
        return product


def _least_squares(
    jacobian: _OutputJacobian, known: Tensor, noise_norm: float, most_iterations: int
) -> Tensor:
    """Minimise ||J' delta - known|| by CGLS (Björck 1996, section 7.4)."""
    delta = torch.zeros_like(jacobian.output).detach()
    residual = known.clone()
    enough = max(noise_norm, _SOLVED * float(known.norm()))
    steepest = jacobian.times(residual)
    direction, length = steepest, float(steepest.square().sum())
    for _ in range(most_iterations):
        if float(residual.norm()) <= enough or length == 0:
            break
        moved = jacobian.transposed(direction)
        step = length / float(moved.square().sum())
        delta = delta + step * direction
        residual = residual - step * moved
        steepest = jacobian.times(residual)
        before, length = length, float(steepest.square().sum())
        direction = steepest + (length / before) * direction
    return delta


def _adversarial_part(
    judge: nn.Module, model: ModelConfig, source: Tensor, output: Tensor
) -> Tensor:
    """The derivative of the adversarial loss by the output."""
    translated = output.clone().requires_grad_()
    loss = AdversarialLoss(model.adversarial_loss).generator(judge(source, translated))
    (derivative,) = torch.autograd.grad(loss, translated)
    return derivative
