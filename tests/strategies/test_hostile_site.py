"""One site of four sends scaled or reversed updates: FedAvg breaks, robust strategies do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from in_process_federation import InProcessFederation, Tamper

from lightning_modules.combining.updates import Weights
from lightning_modules.strategies.catalogue import STRATEGIES

MakeFederation = Callable[..., InProcessFederation]
SITES = ("east", "north", "south", "west")


ROBUST = [name for name, strategy in STRATEGIES.items() if strategy.robust]


def scaled(received: Weights, trained: Weights) -> Weights:
    """An update a hundred times too long."""
    return {
        k: (received[k] + 100.0 * (v - received[k])).astype(v.dtype) for k, v in trained.items()
    }


def reversed_(received: Weights, trained: Weights) -> Weights:
    """An update in the opposite direction, ten times too long."""
    return {k: (received[k] - 10.0 * (v - received[k])).astype(v.dtype) for k, v in trained.items()}


def loss(federation: InProcessFederation, site: str) -> float:
    """L1 of the global generator on a site's training slices, without training."""
    learner = federation.learner(site)
    probe = learner.train(federation.tensors(), federation.round_number).metrics
    return probe["train/l1"]


@pytest.mark.parametrize("tamper", [scaled, reversed_])
def test_fedavg_breaks_and_the_robust_strategies_still_learn(
    make_federation: MakeFederation, tamper: Tamper
) -> None:
    assert {"fedmedian", "trimmed_mean", "krum"} <= set(ROBUST)
    steps = {"steps": 8}
    honest = make_federation(SITES, training=steps)
    start = loss(honest, "east")
    honest.run(rounds=3)
    good = loss(honest, "east")
    assert good < 0.8 * start
    found = {}
    for name in ("fedavg", *ROBUST):
        federation = make_federation(SITES, training=steps, strategy={"name": name})
        federation.run(rounds=3, tamper={"west": tamper})
        assert all(np.isfinite(value).all() for value in federation.weights.values())
        found[name] = loss(federation, "east")
    assert found["fedavg"] > 1.5 * good, found
    assert all(found[name] < 1.2 * good for name in ROBUST), found
