"""The learner: it learns, repeats itself bit for bit, and equals a plain PyTorch loop."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedi2i.errors import ConfigError, DataError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.batches import SliceOrder
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import load_translator, validate
from lightning_modules.networks.building import build_networks
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.preparation import PreparedSite

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


def test_training_lowers_the_l1_loss_and_translates_unseen_patients_better(
    make_experiment: MakeExperiment,
    sites: dict[str, PreparedSite],
    hardware: Hardware,
    tmp_path: Path,
) -> None:
    experiment = make_experiment(training={"steps": 25})
    pooled = TrainingSlices([site.split("train") for site in sites.values()])
    learner = Learner(experiment, "centralised", pooled, hardware, LocalStateStore(tmp_path))
    generator = build_generator(experiment.model.generator)
    validation = sites["north"].split("val")

    def quality(state: State) -> dict[str, float]:
        load_translator(generator, state)
        return validate(generator, validation, hardware)

    state = learner.initial_state()
    before = quality(state)
    losses = []
    for number in range(3):
        result = learner.train(state, number)
        state = result.state
        losses.append(result.metrics["train/l1"])
    after = quality(state)
    assert losses[-1] < 0.5 * losses[0]
    assert losses == sorted(losses, reverse=True)
    assert after["val/psnr"] > before["val/psnr"] + 1.0
    assert after["val/ssim"] > before["val/ssim"] + 0.1


def _plain_loop(
    experiment: ExperimentConfig, slices: TrainingSlices, arm: str, rounds: int
) -> State:
    """pix2pix as the paper writes it, with torch alone; fresh Adam moments every round."""
    model, training = experiment.model, experiment.training
    networks = build_networks(model, experiment.seed)
    generator, discriminator = networks["generator"], networks["discriminator"]
    order = SliceOrder(experiment.seed, arm, len(slices), training.batch_size)
    betas = (training.beta1, training.beta2)
    for number in range(rounds):
        adam_g = torch.optim.Adam(generator.parameters(), 2e-3, betas)
        adam_d = torch.optim.Adam(discriminator.parameters(), 5e-4, betas)
        for indices in order.indices(number * training.steps, training.steps):
            batch = slices.batch(indices)
            x, y = batch["source"], batch["target"]
            fake = generator(x)
            on_real, on_fake = discriminator(x, y), discriminator(x, fake.detach())
            adam_d.zero_grad()
            (0.5 * ((on_real - 1).pow(2).mean() + on_fake.pow(2).mean())).backward()
            adam_d.step()
            adam_g.zero_grad()
            judged = (discriminator(x, fake) - 1).pow(2).mean()
            (judged + 100.0 * (fake - y).abs().mean()).backward()
            adam_g.step()
    return dict(networks.state_dict())


def test_one_site_equals_a_plain_pytorch_loop(
    make_experiment: MakeExperiment, make_learner: MakeLearner, sites: dict[str, PreparedSite]
) -> None:
    experiment = make_experiment()
    expected = _plain_loop(experiment, TrainingSlices([sites["north"].split("train")]), "north", 2)
    learnt = _rounds(make_learner(experiment), 2)
    assert learnt.keys() == expected.keys()
    for key, value in learnt.items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-6, msg=key)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_two_fresh_learners_give_equal_states(
    make_experiment: MakeExperiment, make_learner: MakeLearner, dropout: float
) -> None:
    experiment = make_experiment(model={"generator": {"dropout": dropout}})
    torch.manual_seed(1)
    one = _rounds(make_learner(experiment), 2)
    torch.manual_seed(2)
    assert _same(one, _rounds(make_learner(experiment), 2))


def test_seed_and_site_change_the_result(
    make_experiment: MakeExperiment, make_learner: MakeLearner
) -> None:
    start = make_learner(make_experiment()).initial_state()
    north = make_learner(make_experiment()).train(start, 0).state
    assert not _same(north, make_learner(make_experiment(), "east").train(start, 0).state)
    assert not _same(north, make_learner(make_experiment(seed=1)).train(start, 0).state)
    assert not _same(north, make_learner(make_experiment()).train(start, 1).state)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_round_does_not_depend_on_what_the_process_did_before(
    make_experiment: MakeExperiment, make_learner: MakeLearner, norm: str
) -> None:
    experiment = make_experiment(
        model={"generator": {"norm": norm, "dropout": 0.2}, "discriminator": {"norm": norm}}
    )
    start = make_learner(experiment).initial_state()
    direct = make_learner(experiment).train(start, 3).state
    busy = make_learner(experiment)
    _rounds(busy, 2)
    assert _same(direct, busy.train(start, 3).state)


def test_the_received_state_is_not_changed(
    make_experiment: MakeExperiment, make_learner: MakeLearner
) -> None:
    learner = make_learner(make_experiment())
    received = learner.initial_state()
    copied = {key: value.clone() for key, value in received.items()}
    result = learner.train(received, 0).state
    assert _same(received, copied)
    kept = {key: value.clone() for key, value in result.items()}
    learner.train(received, 1)
    assert _same(result, kept)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_a_model_that_does_not_fit_is_refused_by_its_key(
    make_experiment: MakeExperiment, make_learner: MakeLearner, change: str
) -> None:
    learner = make_learner(make_experiment())
    state: dict[str, Any] = learner.initial_state()
    key = next(iter(state))
    if change == "missing":
        del state[key]
    elif change == "unexpected":
        key = "generator2.weight"
        state[key] = torch.zeros(1)
    else:
        state[key] = torch.zeros(2, 2)
    with pytest.raises(ConfigError) as caught:
        learner.train(state, 0)
    assert f"'{key}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_site_without_training_slices_is_refused_by_its_name(
    make_experiment: MakeExperiment, hardware: Hardware, tmp_path: Path
) -> None:
    empty = TrainingSlices([])
    learner = Learner(make_experiment(), "island", empty, hardware, LocalStateStore(tmp_path))
    with pytest.raises(DataError, match="island: no training slices"):
        learner.train(learner.initial_state(), 0)


def test_samples_steps_and_mean_losses_are_reported(
    make_experiment: MakeExperiment, make_learner: MakeLearner, sites: dict[str, PreparedSite]
) -> None:
    reports: list[tuple[str, float, int]] = []
    learner = make_learner(make_experiment(training={"steps": 20}))
    result = learner.train(
        learner.initial_state(), 2, lambda tag, value, step: reports.append((tag, value, step))
    )
    assert result.samples == len(sites["north"].split("train").source)
    assert result.steps == 20
    assert result.seconds > 0
    # Steps run on over rounds: the third round of 20 starts after step 40.
    assert {step for _, _, step in reports} == {50, 60}
    for tag, mean in result.metrics.items():
        values = [value for reported, value, _ in reports if reported == tag]
        assert np.mean(values) == pytest.approx(mean, rel=1e-5), tag
    losses = result.metrics
    assert losses["train/loss_generator"] == pytest.approx(
        losses["train/loss_adversarial"] + 100.0 * losses["train/l1"], rel=1e-5
    )


def test_the_number_of_steps_can_be_raised_for_pooled_data(
    make_experiment: MakeExperiment,
    sites: dict[str, PreparedSite],
    hardware: Hardware,
    tmp_path: Path,
) -> None:
    slices = TrainingSlices([site.split("train") for site in sites.values()])
    store = LocalStateStore(tmp_path)
    learner = Learner(make_experiment(), "centralised", slices, hardware, store, steps=16)
    assert learner.train(learner.initial_state(), 0).steps == 16


def test_training_leaves_no_files_behind(
    make_experiment: MakeExperiment,
    make_learner: MakeLearner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    _rounds(make_learner(make_experiment()), 1)
    assert list(tmp_path.iterdir()) == []


def test_rounds_leave_no_optimizer_behind(
    make_experiment: MakeExperiment, make_learner: MakeLearner
) -> None:
    learner = make_learner(make_experiment(training={"steps": 2}))

    def optimizers() -> int:
        return sum(issubclass(type(found), torch.optim.Optimizer) for found in gc.get_objects())

    before = optimizers()
    gc.disable()  # Python's own collector may come by or not
    try:
        _rounds(learner, 3)
        assert optimizers() == before
    finally:
        gc.enable()


def test_bf16_stays_near_full_precision_and_gives_back_float32(
    make_experiment: MakeExperiment,
    make_learner: MakeLearner,
    sites: dict[str, PreparedSite],
    tmp_path: Path,
) -> None:
    experiment = make_experiment(model={"adversarial_loss": "bce"})
    slices = TrainingSlices([sites["north"].split("train")])
    half = Hardware("cpu", "bf16-mixed", 1)
    learner = Learner(experiment, "north", slices, half, LocalStateStore(tmp_path / "half"))
    result = learner.train(learner.initial_state(), 0)
    full = make_learner(experiment).train(learner.initial_state(), 0)
    assert all(value.dtype == torch.float32 for value in result.state.values())
    assert result.metrics["train/l1"] == pytest.approx(full.metrics["train/l1"], rel=0.05)
