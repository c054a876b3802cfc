"""The job of patient-level differential privacy: what it tells its sites, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from job_building import build_site

from app_custom.executor.translation_executor import TranslationExecutor
from fedi2i.errors import ConfigError
from fedi2i.typed_config import merged
from jobs.commands.job_folders import JOBS_FOLDER
from jobs.privacy.catalogue import PRIVACY_JOBS, epsilon_of
from jobs.writing.federation import (
    DEFAULT_FILE,
    FederatedExperiment,
    read_federated_experiment,
)
from jobs.writing.job_folder import run_name, site_config
from lightning_modules.privacy.patient_settings import PatientNoise

# Everybody is drawn, so that the closed form counts and no test waits for the numerical one.
NOISED: dict[str, Any] = {"mechanism": "patient_noise", "sampling_rate": 1.0, "epsilon": 1e6}


def job(privacy: dict[str, Any] | None = None, **experiment: Any) -> FederatedExperiment:
    changes = {"experiment": experiment, "privacy": merged(NOISED, privacy or {})}
    return read_federated_experiment(DEFAULT_FILE, changes)


def test_the_committed_job_gives_its_settings_to_the_executor_and_adds_no_filter(
    workspace: Path,
) -> None:
    built = build_site(JOBS_FOLDER / "fedavg_patient_dp", workspace).runner_config
    executor = built.task_router.task_table["train"]
    assert isinstance(executor, TranslationExecutor)
    assert executor._noise == PatientNoise()
    (gate,) = built.task_result_filters["train/out"]
    assert type(gate).__name__ == "AllowedUpdate"
    assert PRIVACY_JOBS["fedavg_patient_dp"].label == "FedAvg, patient-level DP"


def test_a_job_with_other_noise_is_another_run_and_one_without_says_nothing_of_it() -> None:
    assert run_name("job", job()) != run_name("job", job({"noise_multiplier": 2.0}))
    plain = read_federated_experiment(DEFAULT_FILE, {})
    assert "patient_noise" not in str(site_config("fedavg", plain))


def test_epsilon_grows_with_the_networks_and_hangs_on_no_site_s_patients() -> None:
    regression = job(model={"name": "regression"}, sharing="generator")
    assert epsilon_of(job(), 6) == epsilon_of(regression, 12)
    assert epsilon_of(job({"patients": 500}), 6) == epsilon_of(job(), 6)


@pytest.mark.parametrize(
    ("privacy", "experiment", "words"),
    [
        ({"epsilon": 10.0}, {}, "6 rounds of 150 steps spend epsilon .* privacy.epsilon is 10"),
        ({}, {"model": {"generator": {"norm": "batch"}}}, "model.generator.norm is 'batch'"),
        ({}, {"strategy": {"name": "ditto"}}, "does not admit: its personal models"),
        ({"noise_multiplier": 0.0}, {}, "privacy.noise_multiplier is 0.0"),
        ({"clipping_discriminator": 0.0}, {}, "privacy.clipping_discriminator is 0.0"),
        ({"epsilon": 0.0}, {}, "privacy.epsilon is 0.0"),
        ({"delta": 1.0}, {}, "privacy.delta is 1.0"),
        ({"sampling_rate": 0.0}, {}, "privacy.sampling_rate is 0.0"),
        ({"samples": 3}, {}, "unknown key 'privacy.samples'"),
    ],
)
def test_what_promises_nothing_is_refused_when_the_job_is_written(
    privacy: dict[str, Any], experiment: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        job(privacy, **experiment)


def test_cyclegan_is_refused_with_the_reason() -> None:
    unpaired = {"preparation": {"pairing": "unpaired"}}
    with pytest.raises(ConfigError, match="translations of earlier steps' patients again"):
        job(model={"name": "cyclegan"}, data=unpaired)
