"""Jobs with a privacy mechanism: what they carry, what they promise, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from job_building import build_site

from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.privacy.nvflare_filters import FilteredUpdate, RememberReceived
from app_custom.privacy.update_filters import AddNoise, SpendBudget
from fedi2i.errors import ConfigError
from jobs.commands.job_folders import JOBS_FOLDER, committed_jobs
from jobs.privacy.catalogue import MECHANISMS, PRIVACY_JOBS, description, epsilon_of
from jobs.writing.export import job_files
from jobs.writing.federation import (
    DEFAULT_FILE,
    FederatedExperiment,
    read_federated_experiment,
    with_strategy,
)
from jobs.writing.job_folder import run_name, site_config
from lightning_modules.strategies.catalogue import STRATEGIES, STRATEGY_JOBS

NOISED: dict[str, Any] = {"mechanism": "update_noise"}


def job(strategy: str = "fedavg", model: str = "pix2pix", **privacy: Any) -> FederatedExperiment:
    changes = {
        "experiment": {"strategy": dict(STRATEGY_JOBS[strategy].values), "model": {"name": model}},
        "privacy": {**NOISED, **privacy},
    }
    return read_federated_experiment(DEFAULT_FILE, changes, fit_rounds=True)


def plain_job() -> FederatedExperiment:
    return read_federated_experiment(DEFAULT_FILE, {"privacy": {"mechanism": "none"}})


@pytest.mark.parametrize("name", sorted(PRIVACY_JOBS))
def test_the_committed_job_is_what_the_exporter_writes_byte_for_byte(name: str) -> None:
    made = read_federated_experiment(DEFAULT_FILE, committed_jobs()[name], fit_rounds=True)
    folder = JOBS_FOLDER / name
    found = {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == job_files(name, made)
    if made.privacy.record and made.privacy.record.releases:  # a spent budget must not end the job
        assert made.federation.needed < len(made.federation.sites)


@pytest.mark.parametrize("name", sorted(PRIVACY_JOBS))
def test_discriminators_which_see_real_targets_stay_at_their_sites(
    name: str, workspace: Path
) -> None:
    """The last gate is asked, and not the settings: nothing passes that it does not list."""
    filters = build_site(JOBS_FOLDER / name, workspace).runner_config.task_result_filters
    (gate,) = [part for part in filters["train/out"] if isinstance(part, AllowedUpdate)]
    assert gate._scope.networks == ("generator",)


@pytest.mark.parametrize(
    "name", sorted(name for name, job in PRIVACY_JOBS.items() if job.mechanism.ending == "dp")
)
def test_a_site_spends_before_it_trains_and_noises_before_the_gate(
    name: str, workspace: Path
) -> None:
    built = build_site(JOBS_FOLDER / name, workspace).runner_config
    for task in ("train", "validate"):
        (arriving,) = built.task_data_filters[f"{task}/in"]
        assert isinstance(arriving, SpendBudget)
        noise, gate = built.task_result_filters[f"{task}/out"]
        assert isinstance(noise, AddNoise)
        assert isinstance(gate, AllowedUpdate)


def test_a_job_without_a_mechanism_is_the_same_as_before_and_has_another_run() -> None:
    plain, noised = plain_job(), job()
    assert "app_custom.privacy" not in str(site_config("fedavg", plain))
    assert run_name("fedavg", plain) != run_name("fedavg", noised)
    assert run_name("fedavg", job(noise_multiplier=0.02)) != run_name("fedavg", noised)


def test_the_committed_jobs_say_how_little_they_promise() -> None:
    """Six rounds of two networks at sigma 0.01: the documents call it no protection at all."""
    made = job()
    spent = epsilon_of(made, 6)
    assert spent is not None and spent > 40_000
    assert epsilon_of(plain_job(), 6) is None


def test_a_job_whose_rounds_spend_more_than_its_budget_is_refused_when_it_is_read() -> None:
    with pytest.raises(ConfigError, match="6 rounds spend epsilon"):
        job(epsilon=100.0)


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("scaffold", "its controls are sums of updates without noise"),
        ("feddyn", "its controls are sums of updates without noise"),
        ("swarm", "past the noise"),
        ("fedma_layerwise", "sites go on from layers of their own"),
        ("fedavg_independent", "first weights of their own"),
        ("fedma_independent", "first weights of their own"),
    ],
)
def test_a_strategy_that_sends_more_than_an_update_is_refused_with_its_reason(
    strategy: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        job(strategy)


def test_every_strategy_says_whether_its_updates_can_be_noised() -> None:
    assert all(s.mechanisms.update_level_dp != "not yet" for s in STRATEGIES.values())


@pytest.mark.parametrize(
    ("privacy", "words"),
    [
        ({"mechanism": "noise"}, "unknown value 'noise'"),
        ({"noise_multiplier": 0.0}, "privacy.noise_multiplier is 0.0"),
        ({"delta": 0.0}, "privacy.delta is 0.0"),
        ({"delta": 1.0}, "privacy.delta is 1.0"),
        ({"epsilon": 0.0}, "privacy.epsilon is 0.0"),
        ({"clipping_generator": 0.0}, "privacy.clipping_generator is 0.0"),
        ({"epsilom": 1.0}, "unknown key 'privacy.epsilom'; did you mean 'epsilon'"),
    ],
)
def test_a_mechanism_that_promises_nothing_is_refused(privacy: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        job(**privacy)


def test_batch_normalisation_is_refused_beside_noise() -> None:
    changes = {
        "experiment": {"model": {"generator": {"norm": "batch"}}},
        "privacy": NOISED,
    }
    with pytest.raises(ConfigError, match=r"model.generator.norm is 'batch'"):
        read_federated_experiment(DEFAULT_FILE, changes)


def test_a_comparison_takes_a_privacy_job_with_its_mechanism_and_the_file_s_own_settings() -> None:
    plain = plain_job()
    assert with_strategy(plain, "fedprox_dp").privacy.settings.noise_multiplier == 0.01
    assert with_strategy(plain, "fedprox_dp").experiment.strategy.name == "fedprox"
    assert not with_strategy(plain, "fedprox").privacy.acts
    louder = job(noise_multiplier=0.5)
    assert with_strategy(louder, "fedprox_dp").privacy.settings.noise_multiplier == 0.5
    assert with_strategy(louder, "fedavg_svt").privacy.mechanism == "svt"
    with pytest.raises(ConfigError, match="unknown strategy 'fedavg_pd'; did you mean 'fedavg_dp'"):
        with_strategy(plain, "fedavg_pd")


@pytest.mark.parametrize(
    ("privacy", "words"),
    [
        ({"mechanism": "percentile", "percentile": 100}, "privacy.percentile is 100"),
        ({"mechanism": "percentile", "gamma": 0}, "privacy.gamma is 0"),
        ({"mechanism": "percentile", "noise_multiplier": 1}, "belongs to patient_noise, update"),
        ({"mechanism": "svt", "fraction": 0}, "privacy.fraction is 0"),
        ({"mechanism": "svt", "tau": 1.0}, "privacy: tau is 1.0; write 0 to 2 gamma / epsilon"),
    ],
)
def test_settings_with_which_nvflare_s_filters_do_nothing_are_refused(
    privacy: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        job(**privacy)


@pytest.mark.parametrize("mechanism", ["percentile", "svt"])
def test_mechanisms_without_a_guarantee_say_so_wherever_they_are_named(mechanism: str) -> None:
    made = job(mechanism=mechanism)
    record = MECHANISMS[mechanism]
    assert not record.guarantees and "not differential privacy" in record.label
    assert description(made)["promise"].startswith("not differential privacy")
    assert epsilon_of(made, 6) is None
    with pytest.raises(ConfigError, match="does not admit"):
        job("scaffold", mechanism=mechanism)
    with pytest.raises(ConfigError, match="first weights of their own"):
        job("fedavg_independent", mechanism=mechanism)


@pytest.mark.parametrize("name", ["fedavg_percentile", "fedavg_svt"])
def test_nvflare_s_filters_see_the_update_and_the_gate_sees_what_they_leave(
    name: str, workspace: Path
) -> None:
    built = build_site(JOBS_FOLDER / name, workspace).runner_config
    for task in ("train", "validate"):
        (arriving,) = built.task_data_filters[f"{task}/in"]
        assert isinstance(arriving, RememberReceived)
        filtered, gate = built.task_result_filters[f"{task}/out"]
        assert isinstance(filtered, FilteredUpdate)
        assert isinstance(gate, AllowedUpdate)
