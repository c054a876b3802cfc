"""The learner under patient-level differential privacy: what it gives back, and what acts where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import load_translator, validate
from lightning_modules.modules import patient_noise as patient_noise_module
from lightning_modules.networks.building import build_networks
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.privacy.patient_settings import PatientNoise
from lightning_modules.strategies.fedprox import ProximalTerm
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner, RoundResult
from lightning_modules.training.local_state import LocalStateStore
from partitions.preparation import PreparedSite

MakeExperiment = Callable[..., ExperimentConfig]
Train = Callable[..., RoundResult]
FEW_STEPS: dict[str, Any] = {"steps": 3}


@pytest.fixture
def train(sites: dict[str, PreparedSite], hardware: Hardware, tmp_path: Path) -> Train:
    """One round of a new learner, as in a new process."""

    def run(experiment: ExperimentConfig, noise: PatientNoise, number: int = 0) -> RoundResult:
        slices = TrainingSlices([sites["north"].split("train")])
        store = LocalStateStore(tmp_path / "state")
        learner = Learner(experiment, "north", slices, hardware, store, patient_noise=noise)
        return learner.train(learner.initial_state(), number)

    return run


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return float(sum((one[key] - other[key]).abs().sum() for key in one))


def test_the_same_seed_gives_other_patients_and_other_noise(
    train: Train, make_experiment: MakeExperiment
) -> None:
    noise = PatientNoise(sampling_rate=0.5)
    first, second = (train(make_experiment(training=FEW_STEPS), noise).state for _ in range(2))
    assert first.keys() == second.keys()
    assert distance(first, second) > 0.1


def test_no_loss_and_no_true_number_is_given_back(
    train: Train, make_experiment: MakeExperiment
) -> None:
    result = train(make_experiment(training=FEW_STEPS), PatientNoise(patients=2))
    assert set(result.metrics) == {
        "train/noised_gradient_generator",
        "train/noised_gradient_discriminator",
    }
    assert result.samples == 2  # of twelve slices


def test_with_hardly_any_noise_it_learns(
    train: Train, make_experiment: MakeExperiment, sites: dict[str, PreparedSite]
) -> None:
    experiment = make_experiment(training={"steps": 40})
    noise = PatientNoise(noise_multiplier=1e-6, sampling_rate=1.0, patients=2)
    generator = build_generator(experiment.model.generator)
    initial = dict(build_networks(experiment.model, experiment.seed).state_dict())
    measured = []
    for state in (initial, train(experiment, noise).state):
        load_translator(generator, state, "generator")
        hardware = Hardware("cpu", "32-true", 1)
        measured.append(validate(generator, sites["north"].split("val"), hardware)["val/psnr"])
    assert measured[1] > measured[0] + 0.7


def test_a_proximal_term_is_added_behind_the_noise(
    train: Train, make_experiment: MakeExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The term sees the noised gradient, and nothing that came before."""
    made: list[Tensor] = []
    seen: list[Tensor] = []

    def noised(loss: Any, parameters: Any, patients: Any, **_: Any) -> list[Tensor]:
        made.extend(torch.full_like(parameter, 7.0) for parameter in parameters)
        return made[-len(parameters) :]

    additions = ProximalTerm.additions

    def looking(term: Any, role: str, keys: Any, parameters: Any, gradients: Any) -> Any:
        seen.extend(gradient.clone() for gradient in gradients)
        return additions(term, role, keys, parameters, gradients)

    monkeypatch.setattr(patient_noise_module, "noised_gradient", noised)
    monkeypatch.setattr(ProximalTerm, "additions", looking)
    experiment = make_experiment(training={"steps": 1}, strategy={"name": "fedprox"})
    train(experiment, PatientNoise())
    assert len(made) == len(seen) > 0
    assert all(bool((gradient == 7.0).all()) for gradient in seen)


def test_kept_optimizers_are_those_of_the_noised_steps(
    train: Train, make_experiment: MakeExperiment
) -> None:
    experiment = make_experiment(training={"steps": 2, "optimizer_state": "keep"})
    noise = PatientNoise(sampling_rate=0.5)
    train(experiment, noise, 0)
    assert np.isfinite(train(experiment, noise, 1).metrics["train/noised_gradient_generator"])


def test_what_it_does_not_cover_is_refused_before_anything_is_built(
    train: Train, make_experiment: MakeExperiment
) -> None:
    with pytest.raises(ConfigError, match="strategy 'ditto' does not admit"):
        train(make_experiment(strategy={"name": "ditto"}), PatientNoise())


def test_where_nobody_is_drawn_the_networks_take_a_step_of_noise(
    train: Train, make_experiment: MakeExperiment
) -> None:
    experiment = make_experiment(training={"steps": 1})
    result = train(experiment, PatientNoise(sampling_rate=1e-9))
    moved = [name for name, value in result.metrics.items() if value > 0]
    assert len(moved) == 2
