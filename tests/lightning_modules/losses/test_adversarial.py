"""Adversarial losses against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import logsigmoid, mse_loss

from lightning_modules.losses.adversarial import AdversarialLoss

# Negative logits tell raw least squares from least squares behind a LeakyReLU.
LOGITS = torch.tensor([[-2.0, 0.5], [3.0, -0.25]])


def test_lsgan_of_hand_picked_logits_is_the_hand_computed_value() -> None:
    loss = AdversarialLoss("lsgan")
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([-3.0, 1.0])
    # real: ((2-1)^2 + (-1-1)^2) / 2 = 2.5; fake: ((-3)^2 + 1^2) / 2 = 5
    assert float(loss.discriminator(real, fake)) == pytest.approx(0.5 * (2.5 + 5.0))
    # ((-3-1)^2 + (1-1)^2) / 2
    assert float(loss.generator(fake)) == pytest.approx(8.0)


def test_lsgan_equals_mean_squares_of_raw_logits() -> None:
    loss = AdversarialLoss("lsgan")
    ones, zeros = torch.ones(2, 2), torch.zeros(2, 2)
    expected = 0.5 * (mse_loss(LOGITS, ones) + mse_loss(-LOGITS, zeros))
    torch.testing.assert_close(loss.discriminator(LOGITS, -LOGITS), expected)
    torch.testing.assert_close(loss.generator(LOGITS), mse_loss(LOGITS, ones))


def test_lsgan_gradient_of_a_negative_logit_is_not_damped() -> None:
    fake = torch.tensor([-2.0, 4.0], requires_grad=True)
    AdversarialLoss("lsgan").generator(fake).backward()
    # d/dx mean((x - 1)^2) = 2 (x - 1) / n
    torch.testing.assert_close(fake.grad, torch.tensor([-3.0, 3.0]))


def test_bce_of_a_zero_logit_is_the_logarithm_of_two() -> None:
    loss, zero = AdversarialLoss("bce"), torch.zeros(1, 1, 3, 3)
    assert float(loss.discriminator(zero, zero)) == pytest.approx(math.log(2))
    assert float(loss.generator(zero)) == pytest.approx(math.log(2))


def test_bce_equals_the_log_likelihood_of_raw_logits() -> None:
    loss = AdversarialLoss("bce")
    expected = -0.5 * (logsigmoid(LOGITS).mean() + logsigmoid(-(LOGITS + 1)).mean())
    torch.testing.assert_close(loss.discriminator(LOGITS, LOGITS + 1), expected)
    torch.testing.assert_close(loss.generator(LOGITS), -logsigmoid(LOGITS).mean())


@pytest.mark.parametrize("size", [20.0, 200.0])
def test_bce_of_a_confident_mistake_costs_its_logit_and_keeps_its_gradient(size: float) -> None:
    # log(1 + exp(x)) tends to x with slope 1; a sigmoid in float32 would give 100 and slope 0.
    fake = torch.tensor([size], requires_grad=True)
    loss = AdversarialLoss("bce").discriminator(torch.tensor([1e3]), fake)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.5 * size, rel=1e-6)
    assert fake.grad is not None
    assert float(fake.grad) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("kind", ["lsgan", "bce"])
def test_each_player_gains_in_its_own_direction(kind: str) -> None:
    loss = AdversarialLoss(kind)
    high, low = torch.full((4,), 0.9), torch.full((4,), 0.1)
    assert loss.discriminator(high, low) < loss.discriminator(low, high)
    assert loss.generator(high) < loss.generator(low)


@pytest.mark.parametrize("kind", ["lsgan", "bce"])
def test_the_loss_adds_nothing_to_a_state_dict(kind: str) -> None:
    assert AdversarialLoss(kind).state_dict() == {}
