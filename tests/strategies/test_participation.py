"""Sites that miss rounds, come late, answer twice or send nonsense: the rest go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process_federation import InProcessFederation, same

from fedi2i.errors import DataError
from lightning_modules.combining.updates import Weights
from lightning_modules.strategies.catalogue import STRATEGY_JOBS
from lightning_modules.strategies.interface import STAR

MakeFederation = Callable[..., InProcessFederation]
SITES = ("east", "north", "south", "west")

AGGREGATED = [name for name, job in STRATEGY_JOBS.items() if job.strategy.topology == STAR]
"""The jobs whose server combines updates; a relay and a swarm have rules of their own."""


def with_nan(received: Weights, trained: Weights) -> Weights:
    key = next(iter(trained))
    return {**trained, key: np.full_like(trained[key], np.nan)}


def with_infinity(received: Weights, trained: Weights) -> Weights:
    key = next(reversed(trained))
    return {**trained, key: np.full_like(trained[key], -np.inf)}


def without_a_layer(received: Weights, trained: Weights) -> Weights:
    return dict(list(trained.items())[1:])


@pytest.mark.parametrize("job", AGGREGATED)
def test_a_useless_update_is_refused_and_the_round_completes_as_if_the_site_were_absent(
    make_federation: MakeFederation, job: str, caplog: pytest.LogCaptureFixture
) -> None:
    sites = ("east", "north", "south")
    broken = make_federation(sites, strategy=STRATEGY_JOBS[job].values)
    absent = make_federation(sites, strategy=STRATEGY_JOBS[job].values)
    for federation in (broken, absent):
        federation.run()  # so that north has kept something that a refused round must not change
    for tamper in (with_nan, with_infinity, without_a_layer):
        broken.run(tamper={"north": tamper})
        assert broken.refused == ["north"]
        assert "update of site 'north' refused" in caplog.text
        absent.run(participants=["east", "south"])
    assert all(np.isfinite(value).all() for value in broken.weights.values())
    for federation in (broken, absent):
        federation.run(rounds=2)  # what a refused site kept of those rounds is not used either
    assert same(broken.weights, absent.weights)


@pytest.mark.parametrize("name", ["scaffold", "feddyn"])
def test_a_site_that_missed_a_round_goes_on_with_what_it_kept(
    make_federation: MakeFederation, name: str
) -> None:
    federation = make_federation(strategy={"name": name})
    federation.run(rounds=2)
    before = federation.learner("north")._kept(2)
    federation.run(participants=["east"])
    federation.run(participants=["east"])
    after = federation.learner("north")._kept(4)
    assert after.round_number == before.round_number == 1
    assert same(after.state["strategy"], before.state["strategy"])
    federation.run()
    changed = federation.learner("north")._kept(5)
    assert changed.round_number == 4
    assert not same(changed.state["strategy"], before.state["strategy"])


def test_the_server_s_control_is_the_mean_of_the_sites_controls_whoever_answered(
    make_federation: MakeFederation,
) -> None:
    federation = make_federation(SITES, strategy={"name": "scaffold"})
    for participants in (["east", "north"], ["north", "south"], ["west"], list(SITES)):
        federation.run(participants=participants)
    last = dict.fromkeys(SITES, 3)
    assert federation.aggregator.accepted_rounds() == last
    check_control_is_mean_of_sites(federation, last)


def check_control_is_mean_of_sites(federation: InProcessFederation, last: dict[str, int]) -> None:
    """SCAFFOLD's invariant, from what each site kept after its last accepted round."""
    kept = {s: federation.learner(s)._kept(9, last[s]).state["strategy"] for s in SITES}
    samples = {site: result.samples for site, result in federation.results.items()}
    for name, control in federation.aggregator.extras_for_sites().items():
        key = name.removeprefix("control/")
        mean = sum(samples[s] * kept[s][key].numpy().astype(np.float64) for s in SITES)
        np.testing.assert_allclose(
            control, mean / sum(samples.values()), rtol=1e-4, atol=1e-6, err_msg=key
        )


def test_a_refused_round_leaves_the_server_s_control_the_mean_of_those_the_sites_use(
    make_federation: MakeFederation,
) -> None:
    federation = make_federation(SITES, strategy={"name": "scaffold"})
    federation.run()
    federation.run(tamper={"north": with_nan})
    accepted = federation.aggregator.accepted_rounds()
    assert accepted == {"east": 1, "north": 0, "south": 1, "west": 1}
    check_control_is_mean_of_sites(federation, accepted)


def test_a_new_run_uses_nothing_that_an_older_one_left_at_a_site_that_joins_late(
    make_federation: MakeFederation,
) -> None:
    settings: dict[str, Any] = {"strategy": {"name": "ditto"}, "folder": "sites"}
    make_federation(**settings).run(rounds=2)
    again = make_federation(**settings)
    fresh = make_federation(strategy={"name": "ditto"})
    for federation in (again, fresh):
        federation.run(participants=["east"])
        federation.run(rounds=2)
    kept = [federation.learner("north")._kept(3).state["personal"] for federation in (again, fresh)]
    assert same(*kept)


@pytest.mark.parametrize("name", ["scaffold", "feddyn"])
def test_a_site_that_lost_what_the_server_counts_on_does_not_train(
    make_federation: MakeFederation, name: str, tmp_path: Path
) -> None:
    federation = make_federation(strategy={"name": name}, folder="sites")
    federation.run(rounds=2)
    shutil.rmtree(tmp_path / "sites" / "north")
    with pytest.raises(DataError, match=r"round 1.* is missing.*another name"):
        federation.run()


@pytest.mark.parametrize("name", ["ditto", "fedper", "lg_fedavg"])
def test_without_sums_at_the_server_a_site_that_lost_what_it_kept_starts_afresh(
    make_federation: MakeFederation, name: str, tmp_path: Path
) -> None:
    federation = make_federation(strategy={"name": name}, folder="sites")
    federation.run(rounds=2)
    shutil.rmtree(tmp_path / "sites" / "north")
    federation.run()
    assert federation.refused == []
    assert federation.learner("north")._kept(3).round_number == 2


def test_a_site_of_another_architecture_is_refused_before_it_trains(
    make_federation: MakeFederation,
) -> None:
    federation = make_federation()
    other = make_federation(model={"generator": {"channels": [4, 8]}})
    for wrong, reason in (
        (other.tensors(), "shape"),
        ({k: v for k, v in federation.tensors().items() if "generator" in k}, "lacks"),
    ):
        learner = federation.learner("north")
        learner._fit = None  # type: ignore[method-assign]
        with pytest.raises(Exception, match=reason):
            learner.train(wrong, 0)


def test_sharing_the_generator_alone_keeps_every_strategy_off_the_discriminator(
    make_federation: MakeFederation,
) -> None:
    settings: dict[str, dict[str, Any]] = {
        "fedprox": {"mu_generator": 1.0, "mu_discriminator": 1e6},
        "scaffold": {},
        "feddyn": {"alpha_generator": 1.0, "alpha_discriminator": 1e6},
    }
    for name, values in settings.items():
        federation = make_federation(sharing="generator", strategy={"name": name, **values})
        federation.run(rounds=2)
        assert all(key.startswith("generator.") for key in federation.weights)
        for result in federation.results.values():
            assert "strategy/ratio_discriminator" not in result.metrics
            assert not any("discriminator" in key for key in result.extras)
