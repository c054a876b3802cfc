"""What patient-level differential privacy spends, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fedi2i.errors import ConfigError, DataError
from lightning_modules.configuration import experiment_from
from lightning_modules.modules import build_module
from lightning_modules.privacy.accountant import epsilon
from lightning_modules.privacy.patient_settings import (
    PatientNoise,
    check_experiment,
    check_patients,
    refuse_statistics,
)
from lightning_modules.strategies.catalogue import STRATEGIES


def spent(patients: int, sigma: float) -> float:
    """900 steps of both networks, two patients expected in a step, delta a tenth of 1 / n."""
    noise = PatientNoise(noise_multiplier=sigma, sampling_rate=2 / patients)
    return epsilon([noise.release("pix2pix", 900)], 1 / (10 * patients))


@pytest.mark.parametrize(
    ("patients", "sigma", "expected"),
    [(30, 2.0, 4.69), (100, 2.0, 1.22)],
)
def test_two_draws_a_step_spend_what_was_worked_out_for_them(
    patients: int, sigma: float, expected: float
) -> None:
    """One draw for both networks would spend 5.15 and 1.35."""
    assert spent(patients, sigma) == pytest.approx(expected, rel=0.005)


def test_every_network_is_a_release_of_its_own_in_every_step() -> None:
    noise = PatientNoise()
    assert noise.release("pix2pix", 150).count == 300
    assert noise.release("regression", 150).count == 150
    assert noise.release("pix2pix", 1).sensitivity == 1.0  # added or removed, not replaced


def test_clipping_norms_follow_the_networks_roles() -> None:
    noise = PatientNoise(clipping_generator=8.0, clipping_discriminator=0.5)
    assert noise.clipping("pix2pix") == {"generator": 8.0, "discriminator": 0.5}


@pytest.mark.parametrize(
    ("model", "strategy", "words"),
    [
        ({"name": "cyclegan"}, "fedavg", "shown translations of earlier steps' patients"),
        ({"generator": {"norm": "batch"}}, "fedavg", "model.generator.norm is 'batch'"),
        ({"discriminator": {"norm": "batch"}}, "fedavg", "model.discriminator.norm is 'batch'"),
        ({}, "ditto", "personal models are trained on the same patients again"),
        ({}, "swarm", "strategy 'swarm' does not admit"),
    ],
)
def test_what_no_clipping_bounds_is_refused_with_its_reason(
    model: dict[str, Any], strategy: str, words: str
) -> None:
    values = {"model": model, "strategy": {"name": strategy}}
    with pytest.raises(ConfigError, match=words):
        check_experiment(experiment_from(values, "test"), "job.yaml")


def test_every_strategy_but_two_admits_it() -> None:
    refused = {name for name, s in STRATEGIES.items() if s.mechanisms.patient_level_dp != "yes"}
    assert refused == {"ditto", "swarm"}


def test_any_buffer_that_could_take_up_data_is_refused_whatever_it_is_called() -> None:
    refuse_statistics([("generator.steps", False)], "model")
    with pytest.raises(ConfigError, match=r"buffer 'generator\.seen' .* norm 'instance'"):
        refuse_statistics([("generator.seen", True)], "model")


def test_batch_normalisation_is_refused_where_the_networks_are_built_too() -> None:
    """As an experiment's check could be passed by: the plain loop runs, and is not private."""
    config = experiment_from({"model": {"generator": {"norm": "batch"}}}, "test")
    with pytest.raises(ConfigError, match="running_mean"):
        build_module(config.model, config.training, 1, PatientNoise())


@pytest.mark.parametrize(
    ("patients", "delta", "words"),
    [
        (4, 1e-3, "has 4 training patient.* counts on 5"),
        (10, 0.1, "would allow one of them to be given away whole"),
        (1000, 1e-3, "a delta well below 0.001"),
    ],
)
def test_a_site_of_too_few_patients_or_too_many_for_delta_takes_no_part(
    patients: int, delta: float, words: str
) -> None:
    noise = PatientNoise(patients=5, delta=delta)
    with pytest.raises(DataError, match=words):
        check_patients(noise, noise.budget, patients)
    check_patients(replace(noise, delta=1e-6), replace(noise, delta=1e-6).budget, 5)
