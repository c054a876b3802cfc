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


@pytest.mark.parametrize("name", ["cyclic", "swarm", "fedma", "fedma_layerwise"])
def test_what_needs_more_than_a_star_is_refused(
    name: str, prepared_sites: dict[str, PreparedSite], tmp_path: Path
) -> None:
    assert name in STRATEGIES
    experiment = tiny_experiment(strategy={"name": name})
    with pytest.raises(ConfigError, match=f"'{name}' needs more than .* the server of a star"):
        PlainLoop(experiment, prepared_sites, tmp_path, CPU)
