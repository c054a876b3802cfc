"""Training on changed slices: as a plain loop would, and the same after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from learner_rounds import after_rounds
from torch import Tensor

from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.augmentation import augmenter_of, step_randoms
from lightning_modules.data.batches import SliceOrder
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.networks.building import build_networks
from lightning_modules.privacy.patient_settings import PatientNoise
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.preparation import PreparedSite

MakeExperiment = Callable[..., ExperimentConfig]
MakeLearner = Callable[..., Learner]
State = dict[str, Tensor]
SHAPES = {"flip": 0.5, "rotation": 10, "translation": 0.1, "scaling": 0.1}
EVERYTHING = {**SHAPES, "contrast": 0.2, "brightness": 0.1, "noise": 0.02}
MODELS: dict[str, dict[str, Any]] = {
    "pix2pix": {},
    "cyclegan": {"model": {"name": "cyclegan", "lambda_identity": 0.0, "image_buffer": 4}},
}


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer_state", ["reset", "keep"])
def test_a_run_that_goes_on_in_another_process_equals_an_uninterrupted_one(
    make_experiment: MakeExperiment, make_learner: MakeLearner, model: str, optimizer_state: str
) -> None:
    training = {"steps": 4, "augmentation": EVERYTHING, "optimizer_state": optimizer_state}
    experiment = make_experiment(training=training, **MODELS[model])

    start = make_learner(experiment).initial_state()
    whole = after_rounds(make_learner(experiment, store="whole"), start, 0, 1, 2)
    broken = after_rounds(make_learner(experiment, store="broken"), start, 0, 1)
    torch.manual_seed(5)
    # The third round is begun, lost with its process, and taken again.
    make_learner(experiment, store="broken").train(broken, 2)
    assert _same(after_rounds(make_learner(experiment, store="broken"), broken, 2), whole)


def test_a_site_s_training_is_that_of_a_plain_loop_on_the_changed_slices(
    make_experiment: MakeExperiment, make_learner: MakeLearner, sites: dict[str, PreparedSite]
) -> None:
    experiment = make_experiment(
        model={"name": "regression"}, sharing="generator", training={"augmentation": EVERYTHING}
    )
    slices = TrainingSlices([sites["north"].split("train")])
    generator = build_networks(experiment.model, experiment.seed)["generator"]
    augmenter = augmenter_of(experiment.training, experiment.data.preparation)
    assert augmenter is not None
    for number in range(2):
        adam = torch.optim.Adam(generator.parameters(), 2e-3, (0.5, 0.999))
        order = SliceOrder(experiment.seed, "north", len(slices), 2)
        for step, indices in enumerate(order.indices(8 * number, 8), 8 * number):
            names = ("source", "target")
            randoms = step_randoms(experiment.seed, "north", names, step, 2)
            batch = augmenter(slices.batch(indices), randoms)
            adam.zero_grad()
            (100 * (generator(batch["source"]) - batch["target"]).abs().mean()).backward()
            adam.step()
    learner = make_learner(experiment)
    state = learner.initial_state()
    for number in range(2):
        state = learner.train(state, number).state
    for key, value in generator.state_dict().items():
        torch.testing.assert_close(state[f"generator.{key}"], value, rtol=0, atol=1e-6, msg=key)


def test_patient_level_noise_trains_on_changed_slices_and_gives_back_what_it_always_did(
    make_experiment: MakeExperiment,
    sites: dict[str, PreparedSite],
    hardware: Hardware,
    tmp_path: Any,
) -> None:
    """Nearly without noise and with everybody drawn, the change is all that differs."""
    slices = TrainingSlices([sites["north"].split("train")])
    noise = PatientNoise(noise_multiplier=1e-9, sampling_rate=1.0, slices=4096, patients=2)

    def trained(name: str, **augmentation: float) -> Any:
        experiment = make_experiment(training={"steps": 1, "augmentation": augmentation})
        store = LocalStateStore(tmp_path / name)
        learner = Learner(experiment, "north", slices, hardware, store, patient_noise=noise)
        return learner.train(learner.initial_state(), 0)

    plain, again, changed = trained("plain"), trained("again"), trained("changed", flip=1)
    assert plain.metrics.keys() == changed.metrics.keys()
    assert plain.samples == changed.samples

    def gradient(result: Any) -> float:
        return float(result.metrics["train/noised_gradient_generator"])

    assert gradient(again) == pytest.approx(gradient(plain), rel=1e-6)
    # Every slice is mirrored: whichever entropy the system draws, the gradient is another one.
    assert gradient(changed) != pytest.approx(gradient(plain), rel=1e-4)
