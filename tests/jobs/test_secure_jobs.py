"""Jobs with secure aggregation: what they carry, and what is refused before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from job_building import SERVER_CONFIG, build_server, build_site

from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.privacy.secure_sum.aggregator import SecureAggregator
from app_custom.privacy.secure_sum.filters import BeginSum, MaskUpdate
from app_custom.privacy.secure_sum.key_exchange import EXCHANGE_TASKS
from app_custom.privacy.secure_sum.mask_keys import MaskKeys
from app_custom.privacy.secure_sum.rounds import SecureRounds
from fedi2i.errors import ConfigError
from jobs.commands.job_folders import JOBS_FOLDER
from jobs.privacy.catalogue import epsilon_of
from jobs.writing.federation import DEFAULT_FILE, FederatedExperiment, read_federated_experiment
from lightning_modules.strategies.catalogue import STRATEGIES, STRATEGY_JOBS
from lightning_modules.strategies.interface import YES

JOB = JOBS_FOLDER / "fedavg_secure"


def job(strategy: str = "fedavg", federation: Any = None, **privacy: Any) -> FederatedExperiment:
    changes = {
        "experiment": {"strategy": dict(STRATEGY_JOBS[strategy].values)},
        "federation": federation or {},
        "privacy": {"mechanism": "secure_sum", **privacy},
    }
    return read_federated_experiment(DEFAULT_FILE, changes, fit_rounds=True)


def test_a_site_masks_before_the_gate_and_answers_the_exchange_behind_a_gate_of_its_own(
    workspace: Path,
) -> None:
    built = build_site(JOB, workspace).runner_config
    for task in ("train", "validate"):
        (arriving,) = built.task_data_filters[f"{task}/in"]
        assert isinstance(arriving, BeginSum)
        mask, gate = built.task_result_filters[f"{task}/out"]
        assert isinstance(mask, MaskUpdate)
        assert isinstance(gate, AllowedUpdate)
    for task in EXCHANGE_TASKS:
        (gate,) = built.task_result_filters[f"{task}/out"]
        assert isinstance(gate, AllowedUpdate)
        assert isinstance(built.task_router.route(task), MaskKeys)


def test_the_server_has_the_workflow_and_the_aggregator_of_sums(workspace: Path) -> None:
    built = build_server(JOB, workspace).runner_config
    assert isinstance(built.workflows[0].controller, SecureRounds)
    assert isinstance(built.components["aggregator"], SecureAggregator)


def test_all_sites_and_the_server_have_the_same_integers() -> None:
    server = json.loads((JOB / SERVER_CONFIG).read_text(encoding="utf-8"))
    site = (JOB / "app_site/config/config_fed_client.json").read_text(encoding="utf-8")
    (aggregator,) = [c for c in server["components"] if c["id"] == "aggregator"]
    (chain, _) = json.loads(site)["task_result_filters"]
    mask = chain["filters"][0]["args"]
    for name in ("bits", "fraction_bits", "bound", "slices_per_weight"):
        assert aggregator["args"][name] == mask[name]


def test_the_strategies_that_work_on_a_mean_admit_it_and_the_others_say_why_not() -> None:
    admitted = {n for n, s in STRATEGIES.items() if s.mechanisms.secure_aggregation == YES}
    on_the_mean = {"fedavg", "fedprox", "fedavgm", "fedadam"}
    assert admitted == on_the_mean | {"fedbn", "fedper", "lg_fedavg", "ditto"}
    assert all(STRATEGIES[name].site.extras == () for name in admitted)
    for name in sorted(admitted):
        assert job(name).privacy.acts
    assert epsilon_of(job(), 6) is None


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("fedmedian", "a median needs every single update"),
        ("trimmed_mean", "depends on every single update"),
        ("krum", "compares single updates"),
        ("fedma", "channels of single models"),
        ("fedma_layerwise", "channels of single models"),
        ("scaffold", "controls"),
        ("feddyn", "needs every site's samples"),
        ("swarm", "past the masks"),
        ("cyclic", "no server adds anything up"),
        ("fedavg_independent", "first weights of their own"),
    ],
)
def test_a_strategy_that_must_see_single_updates_is_refused(strategy: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        job(strategy)


@pytest.mark.parametrize(
    ("federation", "privacy", "words"),
    [
        ({"sites": ["north", "east"]}, {}, r"rounds of 2 site\(s\) hide nobody"),
        ({"min_sites": 2}, {}, r"rounds of 2 site\(s\) hide nobody"),
        ({"compression": "fp16"}, {}, "masked integers cannot be made smaller"),
        ({}, {"fraction_bits": 22}, "does not fit into 32 bits"),
        ({}, {"bound": 4.0}, "does not fit into 32 bits"),
        ({}, {"bits": 48}, "bits is 48; write 32 or 64"),
        ({}, {"bound": 0.0}, r"privacy\.bound is 0\.0"),
        ({}, {"slices_per_weight": 0}, r"privacy\.slices_per_weight is 0"),
        ({}, {"fraction_bit": 20}, "did you mean 'fraction_bits'"),
        ({}, {"epsilon": 1.0}, "belongs to"),
    ],
)
def test_what_would_hide_nobody_or_overflow_is_refused(
    federation: dict[str, Any], privacy: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        job(federation=federation, **privacy)


def test_batch_normalisation_is_refused_beside_masks() -> None:
    changes = {
        "experiment": {"model": {"generator": {"norm": "batch"}}},
        "privacy": {"mechanism": "secure_sum"},
    }
    with pytest.raises(ConfigError, match=r"model.generator.norm is 'batch'"):
        read_federated_experiment(DEFAULT_FILE, changes)
