"""Jobs with encrypted averaging: where the filters stand, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from job_building import build_server, build_site

from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.privacy.encryption.aggregator import EncryptedAggregator
from app_custom.privacy.encryption.filters import Decrypt, Encrypt
from app_custom.server.model_files import EncryptedModelFiles
from fedi2i.errors import ConfigError
from jobs.commands.job_folders import JOBS_FOLDER
from jobs.privacy.catalogue import PRIVACY_JOBS
from jobs.writing.federation import DEFAULT_FILE, FederatedExperiment, read_federated_experiment
from lightning_modules.strategies.catalogue import STRATEGIES, STRATEGY_JOBS
from lightning_modules.strategies.interface import YES

ENCRYPTED = sorted(name for name, job in PRIVACY_JOBS.items() if job.mechanism.ending == "he")


def job(strategy: str = "fedavg", **changes: Any) -> FederatedExperiment:
    experiment = {"strategy": dict(STRATEGY_JOBS[strategy].values), **changes.pop("experiment", {})}
    values = {"experiment": experiment, "privacy": {"mechanism": "encryption"}, **changes}
    return read_federated_experiment(DEFAULT_FILE, values, fit_rounds=True)


@pytest.mark.parametrize("name", ENCRYPTED)
def test_a_site_encrypts_behind_its_gate_and_last_of_all(name: str, workspace: Path) -> None:
    built = build_site(JOBS_FOLDER / name, workspace).runner_config
    for task in ("train", "validate"):
        (arriving,) = built.task_data_filters[f"{task}/in"]
        assert isinstance(arriving, Decrypt)
        gate, encrypt = built.task_result_filters[f"{task}/out"]
        assert isinstance(gate, AllowedUpdate)
        assert isinstance(encrypt, Encrypt)


@pytest.mark.parametrize("name", ENCRYPTED)
def test_the_server_adds_up_and_keeps_what_it_cannot_read(name: str, workspace: Path) -> None:
    parts = build_server(JOBS_FOLDER / name, workspace).runner_config.components
    assert isinstance(parts["aggregator"], EncryptedAggregator)
    assert isinstance(parts["persistor"], EncryptedModelFiles)


def test_fedprox_and_the_generator_alone_can_be_encrypted_too() -> None:
    assert job("fedprox").privacy.mechanism == "encryption"
    assert job(experiment={"sharing": "generator"}).experiment.sharing == "generator"


@pytest.mark.parametrize(
    "strategy", sorted(n for n, s in STRATEGIES.items() if s.mechanisms.encryption != YES)
)
def test_a_strategy_that_needs_more_than_a_sum_is_refused_with_its_reason(strategy: str) -> None:
    reason = STRATEGIES[strategy].mechanisms.encryption
    with pytest.raises(ConfigError, match="does not admit") as refused:
        job(strategy)
    assert str(refused.value).endswith(reason)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"experiment": {"model": {"generator": {"norm": "batch"}}}}, "running variances"),
        ({"federation": {"compression": "fp16"}}, "what is encrypted cannot be compressed"),
        (
            {"privacy": {"mechanism": "encryption", "epsilon": 1.0}},
            "belongs to patient_noise",
        ),
    ],
)
def test_what_a_sum_cannot_do_is_refused_when_the_job_is_written(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        job(**changes)
