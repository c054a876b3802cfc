"""What a learner keeps at its site between rounds: optimizers and networks that are not shared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_modules.configuration import ExperimentConfig
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore

MakeExperiment = Callable[..., ExperimentConfig]
MakeLearner = Callable[..., Learner]
State = dict[str, Tensor]


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _rounds(learner: Learner, count: int, state: State | None = None, first: int = 0) -> State:
    state = state or learner.initial_state()
    for number in range(first, first + count):
        state = learner.train(state, number).state
    return state


@pytest.mark.parametrize("sharing", ["generator", "generator+discriminator"])
def test_kept_optimizers_survive_the_death_of_the_process_bit_for_bit(
    make_experiment: MakeExperiment, make_learner: MakeLearner, sharing: str
) -> None:
    experiment = make_experiment(training={"optimizer_state": "keep"}, sharing=sharing)
    whole = _rounds(make_learner(experiment, store="whole"), 3)
    broken = _rounds(make_learner(experiment, store="broken"), 2)
    resumed = _rounds(make_learner(experiment, store="broken"), 1, broken, first=2)
    assert _same(resumed, whole)


def test_a_repeated_round_starts_from_the_state_that_belongs_to_it(
    make_experiment: MakeExperiment, make_learner: MakeLearner
) -> None:
    experiment = make_experiment(training={"optimizer_state": "keep"}, sharing="generator")
    learner = make_learner(experiment)
    first = learner.train(learner.initial_state(), 0).state
    second = learner.train(first, 1).state
    assert _same(make_learner(experiment).train(first, 1).state, second)


def test_kept_and_reset_optimizers_differ_from_the_second_round_on(
    make_experiment: MakeExperiment, make_learner: MakeLearner, tmp_path: Path
) -> None:
    kept = make_learner(make_experiment(training={"optimizer_state": "keep"}), store="kept")
    reset = make_learner(make_experiment(), store="reset")
    start = reset.initial_state()
    first = kept.train(start, 0).state
    assert _same(first, reset.train(start, 0).state)
    assert not _same(kept.train(first, 1).state, reset.train(first, 1).state)
    assert not (tmp_path / "reset").exists()


def test_reset_ignores_optimizers_that_an_earlier_run_left(
    make_experiment: MakeExperiment, make_learner: MakeLearner
) -> None:
    start = make_learner(make_experiment()).initial_state()
    fresh = make_learner(make_experiment(), store="fresh").train(start, 1).state
    _rounds(make_learner(make_experiment(training={"optimizer_state": "keep"}), store="used"), 1)
    assert _same(make_learner(make_experiment(), store="used").train(start, 1).state, fresh)


def test_a_discriminator_that_is_not_shared_stays_and_is_carried_over(
    make_experiment: MakeExperiment, make_learner: MakeLearner, tmp_path: Path
) -> None:
    experiment = make_experiment(sharing="generator")
    learner = make_learner(experiment)
    start = learner.initial_state()
    result = learner.train(start, 0).state
    for state in (start, result):
        assert {key.split(".")[0] for key in state} == {"generator"}
    kept = LocalStateStore(tmp_path / "state").load(1)
    assert kept is not None
    assert {key.split(".")[0] for key in kept[1]["networks"]} == {"discriminator"}
    carried = make_learner(experiment).train(result, 1).state
    forgotten = make_learner(experiment, store="empty").train(result, 1).state
    assert not _same(carried, forgotten)


def test_one_site_that_shares_its_generator_only_learns_what_it_learns_sharing_both(
    make_experiment: MakeExperiment, make_learner: MakeLearner
) -> None:
    both = _rounds(make_learner(make_experiment()), 3)
    alone = _rounds(make_learner(make_experiment(sharing="generator"), store="alone"), 3)
    assert _same(alone, {key: both[key] for key in alone})
