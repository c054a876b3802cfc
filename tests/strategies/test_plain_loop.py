"""The loop without messages gives what the jobs' aggregator and executors give, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from in_process_federation import InProcessFederation, same

from fedi2i.errors import ConfigError
from fedi2i.typed_config import merged, read_yaml
from jobs.running.plain_loop import PlainLoop
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.strategies.catalogue import STRATEGIES, STRATEGY_JOBS
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.participation import Participation
from partitions.preparation import PreparedSite

TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"
CPU = Hardware("cpu", "32-true", 1)
TUNED = [name for name, job in STRATEGY_JOBS.items() if job.strategy.grid]


def tiny_experiment(**changes: Any) -> ExperimentConfig:
    return experiment_from(merged(read_yaml(TINY)["experiment"], changes), "test")


@pytest.mark.parametrize(
    ("name", "state"),
    [*((name, "reset") for name in TUNED), ("fedper", "keep"), ("feddyn", "keep")],
)
def test_a_loop_ends_with_the_bits_of_the_federation_with_messages(
    name: str, state: str, prepared_sites: dict[str, PreparedSite], tmp_path: Path
) -> None:
    values = {
        "strategy": dict(STRATEGY_JOBS[name].values),
        "training": {"steps": 1, "optimizer_state": state},
        "model": {"discriminator": {"norm": "batch"}},
    }
    experiment = tiny_experiment(**values)
    sites = {site: prepared_sites[site] for site in ("east", "north")}
    with_messages = InProcessFederation(experiment, sites, tmp_path / "with")
    loop = PlainLoop(experiment, sites, tmp_path / "without", CPU)
    assert same(with_messages.run(rounds=2), loop.run(rounds=2))
    scores = loop.validation()
    assert "val/psnr" in scores
    assert ("personal/psnr" in scores) == (name == "ditto")


@pytest.mark.parametrize("name", ["fedavg", "scaffold", "ditto"])
def test_a_loop_that_sites_miss_by_plan_ends_with_the_bits_of_the_federation_with_messages(
    name: str, prepared_sites: dict[str, PreparedSite], tmp_path: Path
) -> None:
    training = {"steps": 4, "optimizer_state": "keep"}
    experiment = tiny_experiment(strategy={"name": name}, training=training, seed=3)
    sites = {site: prepared_sites[site] for site in ("east", "north", "south")}
    plan = Participation(missing=0.5, stragglers={"east": 0.25})
    with_messages = InProcessFederation(experiment, sites, tmp_path / "with", 1, plan)
    there = [plan.present(list(sites), 1, 3, number) for number in range(4)]
    assert len(set(there)) > 2, "the test is about rounds that differ"
    for participants in there:
        with_messages.run(participants=participants)
        assert {r.steps for s, r in with_messages.results.items() if s == "east"} <= {1}
    loop = PlainLoop(experiment, sites, tmp_path / "without", CPU, participation=plan, least=1)
    assert same(with_messages.weights, loop.run(rounds=4))
    assert loop.took_part == there
    assert loop.validation()


@pytest.mark.parametrize("name", ["cyclic", "swarm", "fedma", "fedma_layerwise"])
def test_what_needs_more_than_a_star_is_refused(
    name: str, prepared_sites: dict[str, PreparedSite], tmp_path: Path
) -> None:
    assert name in STRATEGIES
    experiment = tiny_experiment(strategy={"name": name})
    with pytest.raises(ConfigError, match=f"'{name}' needs more than .* the server of a star"):
        PlainLoop(experiment, prepared_sites, tmp_path, CPU)
