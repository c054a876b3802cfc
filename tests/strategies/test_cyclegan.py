"""Every strategy on a second model: two generators and two discriminators on unpaired slices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from in_process_federation import InProcessFederation, same
from test_participation import AGGREGATED

from lightning_modules.model_networks import MODELS
from lightning_modules.strategies.catalogue import STRATEGY_JOBS

MakeFederation = Callable[..., InProcessFederation]
CYCLEGAN = {"name": "cyclegan"}
NETWORKS = MODELS["cyclegan"].names


def networks_that_moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {key.split(".")[0] for key in before if not np.array_equal(before[key], after[key])}


@pytest.mark.parametrize("job", AGGREGATED)
def test_every_strategy_trains_all_four_networks(make_federation: MakeFederation, job: str) -> None:
    federation = make_federation(
        model=CYCLEGAN, training={"steps": 3}, strategy=STRATEGY_JOBS[job].values
    )
    before = dict(federation.weights)
    federation.run(rounds=2)
    assert federation.refused == []
    assert networks_that_moved(before, federation.weights) == set(NETWORKS)
    assert all(np.isfinite(value).all() for value in federation.weights.values())
    for result in federation.results.values():
        assert {"train/cycle", "train/identity", "train/loss_adversarial"} <= set(result.metrics)


@pytest.mark.parametrize("kind", ["unet", "resnet"])
def test_fedma_with_a_common_start_is_fedavg_for_either_generator(
    make_federation: MakeFederation, kind: str
) -> None:
    generator = {"kind": kind, "channels": [8, 16], "residual_units": 2}
    model = {**CYCLEGAN, "generator": generator}
    plain = make_federation(model=model, training={"steps": 3}).run(rounds=2)
    matched = make_federation(model=model, training={"steps": 3}, strategy={"name": "fedma"})
    assert same(matched.run(rounds=2), plain)


def test_a_repeated_run_is_the_same_to_the_last_bit(make_federation: MakeFederation) -> None:
    first, again = (make_federation(model=CYCLEGAN, training={"steps": 4}) for _ in range(2))
    assert same(first.run(rounds=2), again.run(rounds=2))
