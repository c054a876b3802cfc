"""FedProx against its closed form and against the loss term it stands for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from lightning_modules.configuration import ExperimentConfig
from lightning_modules.strategies.fedprox import ProximalTerm
from lightning_modules.training.gradient_editor import GradientEditor
from lightning_modules.training.learner import Learner

MU = {"generator": 0.3, "discriminator": 0.07}
ROLES = {"generator": "generator", "discriminator": "discriminator"}
NO_TRAINER: Any = None


class _TwoNetworks(pl.LightningModule):
    """Two small networks with a buffer and a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.generator = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        self.discriminator = nn.Linear(2, 1)
        self.generator[2].bias.requires_grad_(False)

    def loss(self, batch: Tensor) -> Tensor:
        loss: Tensor = self.discriminator(self.generator(batch)).square().mean()
        return loss


def _editor(mu: dict[str, float], shared: tuple[str, ...] = tuple(ROLES)) -> GradientEditor:
    return GradientEditor(ProximalTerm(mu), ROLES, lambda key: key.split(".")[0] in shared)


def _optimizer(module: _TwoNetworks, name: str, kind: Callable[..., Optimizer]) -> Optimizer:
    parameters = list(getattr(module, name).parameters())
    return kind([{"params": parameters, "name": name}], lr=0.05)


def _batches(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 3, generator=generator) for _ in range(count)]


def _moved(module: _TwoNetworks) -> None:
    """Pretend that local steps have been taken."""
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.add_(0.1 * (number + 1))


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_the_gradient_becomes_task_gradient_plus_mu_times_the_distance(name: str) -> None:
    module = _TwoNetworks()
    received = {key: value.clone() for key, value in module.named_parameters()}
    editor = _editor(MU)
    editor.on_train_start(NO_TRAINER, module)
    _moved(module)
    module.loss(_batches(1)[0]).backward()
    task = {k: p.grad.clone() for k, p in module.named_parameters() if p.grad is not None}
    editor.on_before_optimizer_step(NO_TRAINER, module, _optimizer(module, name, SGD))
    for key, parameter in module.named_parameters():
        if key not in task:
            assert parameter.grad is None
            continue
        pull = MU[name] * (parameter.detach() - received[key]) if key.startswith(name) else 0.0
        torch.testing.assert_close(parameter.grad, task[key] + pull)


def test_the_hand_computed_ratio_is_reported() -> None:
    module = pl.LightningModule()
    module.generator = nn.Linear(2, 1)
    with torch.no_grad():
        module.generator.weight.copy_(torch.tensor([[1.0, 1.0]]))
        module.generator.bias.zero_()
    editor = _editor({"generator": 0.5})
    editor.on_train_start(NO_TRAINER, module)
    optimizer = SGD([{"params": list(module.generator.parameters()), "name": "generator"}], lr=1)
    ratios = []
    # Measured at the second step and at every fifth one after it.
    for shift in (9.0, 3.0, 9.0, 9.0, 9.0, 9.0, 0.0):
        with torch.no_grad():
            module.generator.weight.copy_(torch.tensor([[1.0 + shift, 1.0]]))
            module.generator.bias.fill_(4.0 * shift / 3.0)
        # task gradient (0, 6, 8): norm 10
        module.generator.weight.grad = torch.tensor([[0.0, 6.0]])
        module.generator.bias.grad = torch.tensor([8.0])
        editor.on_before_optimizer_step(NO_TRAINER, module, optimizer)
        ratios.append(editor.ratios().get("strategy/ratio_generator"))
    # distance (3, 0, 4) has norm 5, so 0.5 * 5 / 10; then the mean of that and of 0
    assert ratios == [None, *[pytest.approx(0.25)] * 5, pytest.approx(0.125)]


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_several_steps_equal_training_with_the_proximal_loss_term(
    kind: Callable[..., Optimizer],
) -> None:
    ours, reference = _TwoNetworks(), _TwoNetworks()
    anchor = copy.deepcopy(reference)
    editor = _editor(MU)
    editor.on_train_start(NO_TRAINER, ours)
    our_optimizers = [_optimizer(ours, name, kind) for name in MU]
    reference_optimizers = [_optimizer(reference, name, kind) for name in MU]
    for batch in _batches(8):
        ours.zero_grad()
        ours.loss(batch).backward()
        for optimizer in our_optimizers:
            editor.on_before_optimizer_step(NO_TRAINER, ours, optimizer)
            optimizer.step()
        reference.zero_grad()
        distance = torch.zeros(())
        for (key, parameter), start in zip(
            reference.named_parameters(), anchor.parameters(), strict=True
        ):
            mu = MU[key.split(".")[0]]
            distance = distance + mu / 2 * (parameter - start.detach()).square().sum()
        (reference.loss(batch) + distance).backward()
        for optimizer in reference_optimizers:
            optimizer.step()
    for (key, value), expected in zip(
        ours.state_dict().items(), reference.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6, msg=key)
    moved = (ours.generator[0].weight - anchor.generator[0].weight).abs().max()
    assert moved > 0.01


def test_a_network_that_is_not_shared_is_not_pulled() -> None:
    module = _TwoNetworks()
    editor = _editor(MU, shared=("generator",))
    editor.on_train_start(NO_TRAINER, module)
    _moved(module)
    module.loss(_batches(1)[0]).backward()
    task = module.discriminator.weight.grad.clone()
    editor.on_before_optimizer_step(NO_TRAINER, module, _optimizer(module, "discriminator", SGD))
    assert torch.equal(module.discriminator.weight.grad, task)


def test_a_new_round_is_pulled_to_its_own_start() -> None:
    module = _TwoNetworks()
    editor = _editor(MU)
    editor.on_train_start(NO_TRAINER, module)
    _moved(module)
    editor.on_train_start(NO_TRAINER, module)
    module.loss(_batches(1)[0]).backward()
    task = module.discriminator.weight.grad.clone()
    editor.on_before_optimizer_step(NO_TRAINER, module, _optimizer(module, "discriminator", SGD))
    assert torch.equal(module.discriminator.weight.grad, task)


def test_given_anchors_take_the_place_of_the_round_s_start() -> None:
    module = _TwoNetworks()
    anchors = {key: torch.zeros_like(value) for key, value in module.named_parameters()}
    term = ProximalTerm({"discriminator": 2.0}, anchors)
    editor = GradientEditor(term, ROLES, lambda key: True)
    editor.on_train_start(NO_TRAINER, module)
    weight = module.discriminator.weight
    weight.grad, module.discriminator.bias.grad = torch.zeros_like(weight), None
    editor.on_before_optimizer_step(NO_TRAINER, module, _optimizer(module, "discriminator", SGD))
    torch.testing.assert_close(weight.grad, 2.0 * weight.detach())


def _fedprox(mu_generator: float, mu_discriminator: float) -> dict[str, Any]:
    return {
        "name": "fedprox",
        "mu_generator": mu_generator,
        "mu_discriminator": mu_discriminator,
    }


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_first_step_of_a_round_has_no_proximal_term(
    make_experiment: Callable[..., ExperimentConfig], make_learner: Callable[..., Learner]
) -> None:
    one_step = {"steps": 1}
    plain = make_learner(make_experiment(training=one_step))
    start = plain.initial_state()
    pulled = make_learner(make_experiment(training=one_step, strategy=_fedprox(5.0, 5.0)))
    assert _same(pulled.train(start, 0).state, plain.train(start, 0).state)


def test_a_large_mu_keeps_its_network_nearer_to_the_received_model(
    make_experiment: Callable[..., ExperimentConfig], make_learner: Callable[..., Learner]
) -> None:
    start = make_learner(make_experiment()).initial_state()

    def distances(mu_generator: float, mu_discriminator: float) -> dict[str, float]:
        strategy = _fedprox(mu_generator, mu_discriminator)
        result = make_learner(make_experiment(strategy=strategy)).train(start, 0)
        return {
            name: sum(
                float((value - start[key]).square().sum())
                for key, value in result.state.items()
                if key.startswith(f"{name}.")
            )
            for name in ("generator", "discriminator")
        }

    free = distances(0.0, 0.0)
    assert distances(1e4, 0.0)["generator"] < 0.5 * free["generator"]
    assert distances(0.0, 1e4)["discriminator"] < 0.5 * free["discriminator"]


def test_a_pulled_network_reports_how_hard_it_is_pulled(
    make_experiment: Callable[..., ExperimentConfig], make_learner: Callable[..., Learner]
) -> None:
    learner = make_learner(make_experiment(strategy=_fedprox(0.1, 0.0)))
    metrics = learner.train(learner.initial_state(), 0).metrics
    assert metrics["strategy/ratio_generator"] > 0
    assert "strategy/ratio_discriminator" not in metrics
