"""Jobs whose sites miss rounds by plan: what stands in them, and what cannot bear it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from job_building import SERVER_CONFIG, SITE_CONFIG, build_server, build_site

from app_custom.server.planned_rounds import PlannedRounds
from fedi2i.errors import ConfigError
from fedi2i.typed_config import as_dict
from jobs.writing.export import export_job
from jobs.writing.federation import (
    DEFAULT_FILE,
    FederatedExperiment,
    read_federated_experiment,
    with_strategy,
)
from jobs.writing.job_folder import run_name

MISSING = {"min_sites": 2, "participation": {"missing": 0.3}}
SLOW = {"participation": {"stragglers": {"east": 0.25}}}


def job(**federation: Any) -> FederatedExperiment:
    return read_federated_experiment(DEFAULT_FILE, {"federation": federation})


def config(folder: Path, path: Path) -> Any:
    return json.loads((folder / path).read_text(encoding="utf-8"))


def test_the_server_is_told_the_probability_and_the_seed_and_the_sites_their_parts(
    tmp_path: Path, workspace: Path
) -> None:
    planned = job(min_sites=2, participation={"missing": 0.3, "stragglers": {"east": 0.25}})
    folder = export_job("planned", planned, tmp_path / "planned")
    server, site = config(folder, SERVER_CONFIG), config(folder, SITE_CONFIG)
    rounds = server["workflows"][0]["args"]
    assert (rounds["missing"], rounds["seed"], rounds["min_clients"]) == (0.3, 2026, 2)
    assert site["executors"][0]["executor"]["args"]["stragglers"] == {"east": 0.25}
    assert config(folder, Path("meta.json"))["min_clients"] == 2
    assert isinstance(build_server(folder, workspace).workflows[0].controller, PlannedRounds)
    assert build_site(folder, workspace)


def test_a_job_without_a_plan_says_nothing_of_one() -> None:
    assert "participation" not in as_dict(job().federation)


def test_another_plan_is_another_run() -> None:
    plans: list[dict[str, Any]] = [{}, MISSING, {**MISSING, "min_sites": 3}, SLOW]
    assert len({run_name("fedavg", job(**plan)) for plan in plans}) == 4


@pytest.mark.parametrize(
    ("federation", "sentence"),
    [
        ({"participation": {"missing": 0.3}}, "say in federation.min_sites how many must remain"),
        ({**MISSING, "participation": {"missing": 1.0}}, "participation.missing is 1.0"),
        ({"participation": {"stragglers": {"eats": 0.5}}}, "names 'eats'.*did you mean 'east'"),
        ({"participation": {"stragglers": {"east": 2.0}}}, "of 'east' is 2.0"),
        ({"participation": {"mising": 0.5}}, "did you mean 'missing'"),
    ],
)
def test_a_plan_that_does_not_fit_the_federation_is_one_sentence(
    federation: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        job(**federation)


@pytest.mark.parametrize(
    ("strategy", "federation", "sentence"),
    [
        ("cyclic", SLOW, "needs each of them in every round; leave federation.participation out"),
        ("swarm", MISSING, "needs each of them in every round"),
        ("fedavg_secure", {**MISSING, "min_sites": 3}, "stays out until the job ends"),
        ("fedavg_patient_dp", SLOW, "accounts for the same number of steps at every site"),
        ("krum", MISSING, "2 of 4 sites can make a round"),
    ],
)
def test_what_cannot_bear_missing_sites_refuses_before_the_first_round(
    strategy: str, federation: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        with_strategy(job(**federation), strategy)


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold", "fedma", "trimmed_mean", "fedavg_dp"])
def test_what_combines_at_a_server_bears_them(strategy: str) -> None:
    assert with_strategy(job(**{**MISSING, "min_sites": 3}), strategy)
    assert with_strategy(job(**SLOW), strategy)
