"""Strategies on quadratic problems whose optimum and whose fixed points have closed forms.

Site i minimises 1/2 (w - a_i)' A_i (w - a_i). With weights p_i the federation's optimum solves
sum p_i A_i (w - a_i) = 0. The sites run the product's own gradient terms, the server its own
rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from server_rules import Server
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from lightning_modules.combining.updates import SiteUpdate
from lightning_modules.strategies.catalogue import StrategyConfig, strategy_from
from lightning_modules.strategies.interface import GradientTerm, TermInputs

KEY = "generator.w"
ROLES = {"generator": "generator"}
SIZE, STEPS, RATE = 3, 10, 0.02
SITES = ("east", "north", "south", "west")
SAMPLES = {"east": 1.0, "north": 2.0, "south": 3.0, "west": 2.0}

ADAM: Callable[..., Optimizer] = Adam


@dataclass
class Federation:
    """Four sites with quadratics of different curvature and optimum."""

    strategy: StrategyConfig
    server: Server
    optimizer: Callable[..., Optimizer] = SGD
    rate: float = RATE
    steps: int = STEPS
    weights: np.ndarray = field(default_factory=lambda: np.zeros(SIZE))
    memory: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(7)
        self.optima = {site: rng.normal(scale=3.0, size=SIZE) for site in SITES}
        self.curvatures = {site: _positive(rng) for site in SITES}

    def run(self, rounds: int, participants: Callable[[int], Sequence[str]]) -> np.ndarray:
        for number in range(rounds):
            self.server.view.round_number = number
            extras = _tensors(self.server.extras())
            updates = [self._train(site, extras) for site in sorted(participants(number))]
            anchor = {KEY: self.weights}
            self.weights = self.server.combine("generator", updates, anchor)[KEY]
        return self.weights

    def _term(self, site: str, extras: Mapping[str, Tensor]) -> GradientTerm | None:
        make = self.strategy.record.site.gradient_term
        kept = self.memory.get(site, {})
        return make(TermInputs(self.strategy.settings, kept, extras, ROLES)) if make else None

    def _train(self, site: str, extras: Mapping[str, Tensor]) -> SiteUpdate:
        term = self._term(site, extras)
        parameter = torch.nn.Parameter(torch.from_numpy(self.weights.copy()))
        optimum, curvature = map(torch.from_numpy, (self.optima[site], self.curvatures[site]))
        optimizer = self.optimizer([parameter], lr=self.rate)
        if term:
            term.start({KEY: parameter.detach().clone()})
        for _ in range(self.steps):
            parameter.grad = curvature @ (parameter.detach() - optimum)
            extra = term and term.additions(
                "generator", [KEY], [parameter.detach()], [parameter.grad]
            )
            if extra is not None:
                parameter.grad += extra[0]
            optimizer.step()
        trained = {KEY: parameter.detach()}
        self.memory[site] = term.kept(trained) if term else {}
        sent = {name: value.numpy() for name, value in term.extras().items()} if term else {}
        return SiteUpdate(site, {KEY: trained[KEY].numpy()}, SAMPLES[site], sent)

    def optimum(self) -> np.ndarray:
        """Where the weighted sum of gradients vanishes."""
        left = sum(SAMPLES[site] * self.curvatures[site] for site in SITES)
        right = sum(SAMPLES[s] * self.curvatures[s] @ self.optima[s] for s in SITES)
        return np.asarray(np.linalg.solve(left, right))

    def biased_fixed_point(self, mu: float = 0.0) -> np.ndarray:
        """Where FedAvg (FedProx with mu) stops: K gradient steps per site have the closed form
        w -> b + M (w - b), M = (I - rate (A + mu I))^K, with b the local optimum given w."""
        identity = np.eye(SIZE)
        left, right = np.zeros((SIZE, SIZE)), np.zeros(SIZE)
        for site in SITES:
            total = self.curvatures[site] + mu * identity
            shrink = identity - np.linalg.matrix_power(identity - self.rate * total, self.steps)
            # local step: w + shrink (total^-1 (A a + mu w) - w) = w + shrink total^-1 A (a - w)
            pull = shrink @ np.linalg.solve(total, self.curvatures[site])
            left += SAMPLES[site] * pull
            right += SAMPLES[site] * pull @ self.optima[site]
        return np.asarray(np.linalg.solve(left, right))

    def excess(self, weights: np.ndarray) -> float:
        """Weighted loss above its minimum."""
        return self._loss(weights) - self._loss(self.optimum())

    def _loss(self, weights: np.ndarray) -> float:
        gaps = {site: weights - self.optima[site] for site in SITES}
        return float(sum(SAMPLES[s] * gaps[s] @ self.curvatures[s] @ gaps[s] / 2 for s in SITES))


def _positive(rng: np.random.Generator) -> np.ndarray:
    half = rng.normal(size=(SIZE, SIZE))
    return np.asarray(half @ half.T + 0.5 * np.eye(SIZE))


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value.astype(np.float64)) for name, value in arrays.items()}


def everyone(number: int) -> Sequence[str]:
    return SITES


def two_of_four(number: int) -> Sequence[str]:
    """A different pair in every round; all sites come equally often."""
    pairs = [("east", "north"), ("south", "west"), ("east", "south"), ("north", "west")]
    return pairs[number % 4]


def federation_of(name: str, values: Mapping[str, Any], **settings: Any) -> Federation:
    """A federation under a strategy with some of its settings changed."""
    strategy = strategy_from({"name": name, **values}, "test")
    return Federation(strategy, Server(name, SITES, **values), **settings)


def scaffold(**settings: Any) -> Federation:
    return federation_of("scaffold", {"control_weight": 1.0}, **settings)


def feddyn(alpha: float = 1.0, **settings: Any) -> Federation:
    values = {"alpha_generator": alpha, "alpha_discriminator": alpha}
    return federation_of("feddyn", values, **settings)


def fedavg(**settings: Any) -> Federation:
    return federation_of("fedavg", {}, **settings)


def test_fedavg_stops_at_its_biased_fixed_point_and_not_at_the_optimum() -> None:
    federation = fedavg()
    found = federation.run(400, everyone)
    np.testing.assert_allclose(found, federation.biased_fixed_point(), atol=1e-8)
    assert federation.excess(found) > 0.05


def test_fedprox_stops_at_the_fixed_point_of_its_own_local_problems() -> None:
    federation = federation_of("fedprox", {"mu_generator": 2.0, "mu_discriminator": 0.0})
    found = federation.run(600, everyone)
    np.testing.assert_allclose(found, federation.biased_fixed_point(mu=2.0), atol=1e-8)
    # the pull shortens local paths, so it stops nearer to the optimum than FedAvg
    plain = fedavg()
    assert federation.excess(found) < plain.excess(plain.biased_fixed_point())


def test_one_local_step_of_sgd_is_gradient_descent_on_the_pooled_data() -> None:
    federation = fedavg(steps=1)
    found = federation.run(50, everyone)
    weights, total = np.zeros(SIZE), sum(SAMPLES.values())
    for _ in range(50):
        slope = sum(
            SAMPLES[s] / total * federation.curvatures[s] @ (weights - federation.optima[s])
            for s in SITES
        )
        weights = weights - RATE * slope
    np.testing.assert_allclose(found, weights, rtol=1e-10)


@pytest.mark.parametrize("participants", [everyone, two_of_four])
def test_scaffold_with_sgd_reaches_the_optimum(
    participants: Callable[[int], Sequence[str]],
) -> None:
    federation = scaffold()
    found = federation.run(800, participants)
    np.testing.assert_allclose(found, federation.optimum(), atol=2e-5)  # c travels in float32


@pytest.mark.parametrize("participants", [everyone, two_of_four])
def test_feddyn_reaches_the_optimum(participants: Callable[[int], Sequence[str]]) -> None:
    # FedDyn assumes that local problems are solved: many small steps.
    federation = feddyn(steps=100, rate=0.1)
    found = federation.run(300, participants)
    np.testing.assert_allclose(found, federation.optimum(), atol=1e-6)


def test_the_mean_gradient_of_an_sgd_round_is_scaffold_s_option_two() -> None:
    federation = scaffold()
    federation.run(3, everyone)
    before = {site: memory[KEY].clone() for site, memory in federation.memory.items()}
    received = federation.weights.copy()
    control = federation.server.extras()[f"control/{KEY}"].astype(np.float64)
    extras = _tensors(federation.server.extras())
    update = federation._train("south", extras)
    travelled = (received - update.weights[KEY]) / (STEPS * RATE)
    option_two = before["south"].numpy() - control + travelled
    np.testing.assert_allclose(federation.memory["south"][KEY].numpy(), option_two, rtol=1e-9)


@pytest.mark.parametrize("participants", [everyone, two_of_four])
def test_the_server_s_control_is_the_weighted_mean_of_the_sites_controls(
    participants: Callable[[int], Sequence[str]],
) -> None:
    federation = scaffold()
    federation.run(7, participants)
    control = federation.server.extras()[f"control/{KEY}"]
    mean = sum(SAMPLES[site] * federation.memory[site][KEY].numpy() for site in SITES)
    np.testing.assert_allclose(control, mean / sum(SAMPLES.values()), rtol=1e-5)


def test_with_adam_controls_in_gradient_space_help_where_fedavg_is_far_off() -> None:
    plain = fedavg(optimizer=ADAM, rate=0.05)
    corrected = scaffold(optimizer=ADAM, rate=0.05)
    bias = plain.excess(plain.run(400, everyone))
    assert bias > 0.5
    assert corrected.excess(corrected.run(400, everyone)) < 0.02 * bias


def test_feddyn_with_a_huge_coefficient_does_not_move_a_site() -> None:
    federation = feddyn(1e6, rate=1e-7, steps=50)
    found = federation.run(1, everyone)
    free = fedavg(rate=RATE, steps=50).run(1, everyone)
    assert np.abs(found).max() < 1e-3 * np.abs(free).max()
