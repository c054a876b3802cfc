"""Learning rates over rounds, held against torch's own schedulers and against constant rates."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from learner_rounds import after_rounds
from torch import Tensor

from fedi2i.errors import ConfigError
from lightning_modules.configuration import (
    ExperimentConfig,
    TrainingConfig,
    experiment_from,
    experiment_values,
)
from lightning_modules.training.learner import Learner
from lightning_modules.training.schedule import rate_factor

MakeExperiment = Callable[..., ExperimentConfig]
MakeLearner = Callable[..., Learner]
State = dict[str, Tensor]


def _factors(training: TrainingConfig) -> list[float]:
    return [
        rate_factor(training, number, step, training.steps)
        for number in range(training.rounds)
        for step in range(training.steps)
    ]


def _by_torch(make: Callable[[torch.optim.Optimizer], object], steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler: object = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()  # type: ignore[attr-defined]
    return rates


def test_the_cosine_is_that_of_torch_over_all_rounds() -> None:
    training = TrainingConfig(rounds=3, steps=5, schedule="cosine")
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR
    expected = _by_torch(lambda optimizer: schedule(optimizer, T_max=15), 15)
    assert _factors(training) == pytest.approx(expected)


def test_the_line_is_full_for_half_of_the_run_and_ends_one_step_above_zero() -> None:
    training = TrainingConfig(rounds=4, steps=5, schedule="linear")
    schedule = torch.optim.lr_scheduler.PolynomialLR
    falling = _by_torch(lambda optimizer: schedule(optimizer, total_iters=10, power=1.0), 10)
    assert _factors(training) == pytest.approx([1.0] * 10 + falling)


def test_every_round_warms_up_again() -> None:
    training = TrainingConfig(rounds=2, steps=8, warm_up=0.5)
    assert _factors(training) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0] * 2)


def test_a_round_after_the_last_one_keeps_the_end_of_the_schedule() -> None:
    training = TrainingConfig(rounds=2, steps=8, schedule="cosine")
    assert rate_factor(training, 7, 3, 8) == 0.0


def test_a_step_of_the_last_round_is_that_of_a_constant_rate_of_the_same_size(
    make_experiment: MakeExperiment, make_learner: MakeLearner
) -> None:
    shared = {"rounds": 4, "steps": 1, "optimizer": "sgd"}
    linear = make_experiment(training={**shared, "schedule": "linear"})
    full = linear.training
    halved = {
        "learning_rate_generator": full.learning_rate_generator / 2,
        "learning_rate_discriminator": full.learning_rate_discriminator / 2,
    }
    constant = make_experiment(training={**shared, **halved})
    learner = make_learner(linear, store="linear")
    start = learner.initial_state()
    ended = learner.train(start, 3).state
    expected = make_learner(constant, store="constant").train(start, 3).state
    assert all(torch.equal(ended[key], expected[key]) for key in expected)
    assert not all(torch.equal(ended[key], start[key]) for key in expected)


def test_kept_optimizers_do_not_carry_a_rate_over_to_a_process_that_goes_on(
    make_experiment: MakeExperiment, make_learner: MakeLearner
) -> None:
    training = {"rounds": 3, "optimizer_state": "keep", "schedule": "cosine", "warm_up": 0.2}
    experiment = make_experiment(training=training)

    start = make_learner(experiment).initial_state()
    whole = after_rounds(make_learner(experiment, store="whole"), start, 0, 1, 2)
    broken = after_rounds(make_learner(experiment, store="broken"), start, 0, 1)
    resumed = after_rounds(make_learner(experiment, store="broken"), broken, 2)
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_an_experiment_without_a_schedule_is_written_as_before() -> None:
    written = experiment_values(experiment_from({}, "x"))["training"]
    assert not {"schedule", "warm_up"} & set(written)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("schedule", "cosin", "did you mean 'cosine'"),
        ("warm_up", 1.0, r"it must be in \[0, 1\)"),
    ],
)
def test_a_schedule_that_does_not_exist_is_refused(key: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        experiment_from({"training": {key: value}}, "x")
