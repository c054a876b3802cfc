"""With its coefficient at zero every strategy is FedAvg, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from in_process_federation import InProcessFederation, same

MakeFederation = Callable[..., InProcessFederation]

ZERO: dict[str, dict[str, Any]] = {
    "fedprox": {"mu_generator": 0.0, "mu_discriminator": 0.0},
    "scaffold": {"control_weight": 0.0},
    "feddyn": {"alpha_generator": 0.0, "alpha_discriminator": 0.0},
    "ditto": {"lambda_generator": 0.0, "lambda_discriminator": 0.0},
    "fedavgm": {"server_momentum": 0.0},
    "trimmed_mean": {"trim_fraction": 0.0, "sample_weights": True},
    "fedbn": {},  # instance normalisation without parameters: nothing is local
    "fedma": {},  # from one common model no channel has a reason to move
}

ACTING: dict[str, dict[str, Any]] = {
    "fedprox": {"mu_generator": 1.0, "mu_discriminator": 1.0},
    "scaffold": {},
    "feddyn": {"alpha_generator": 1.0, "alpha_discriminator": 1.0},
    "fedavgm": {"server_momentum": 0.5},
    "fedadam": {},
    "fedmedian": {},
    "trimmed_mean": {"trim_fraction": 0.25},
}


@pytest.mark.parametrize("optimizer_state", ["reset", "keep"])
@pytest.mark.parametrize("name", ZERO)
def test_a_strategy_without_its_coefficient_equals_fedavg_bit_for_bit(
    make_federation: MakeFederation, name: str, optimizer_state: str
) -> None:
    training = {"optimizer_state": optimizer_state}
    plain = make_federation(training=training).run(rounds=3)
    other = make_federation(training=training, strategy={"name": name, **ZERO[name]})
    assert same(other.run(rounds=3), plain)


@pytest.mark.parametrize("name", ACTING)
def test_a_strategy_with_its_coefficient_does_not(
    make_federation: MakeFederation, name: str
) -> None:
    sites = ("east", "north", "south", "west")
    plain = make_federation(sites).run(rounds=2)
    other = make_federation(sites, strategy={"name": name, **ACTING[name]})
    changed = other.run(rounds=2)
    assert not same(changed, plain)
    ratios = {
        name: value
        for result in other.results.values()
        for name, value in result.metrics.items()
        if name.startswith("strategy/ratio_")
    }
    at_server = {metric: value for _, metric, value in other.aggregator.diagnostics}
    acting = {**ratios, **{k: v for k, v in at_server.items() if "server_ratio" in k}}
    for role in ("generator", "discriminator"):
        assert max(value for key, value in acting.items() if key.endswith(role)) > 0.0, acting


def test_a_federation_of_one_site_is_that_site_s_own_training(
    make_federation: MakeFederation,
) -> None:
    federation = make_federation(("north",), training={"steps": 1})
    learner = make_federation(("north",), training={"steps": 1}).learner("north")
    state = learner.initial_state()
    for number in range(3):
        state = learner.train(state, number).state
    assert same(federation.run(rounds=3), {key: value.numpy() for key, value in state.items()})


def test_fedbn_equals_fedavg_only_where_normalisation_holds_nothing(
    make_federation: MakeFederation,
) -> None:
    norm = {"generator": {"norm": "instance_affine"}, "discriminator": {"norm": "batch"}}
    plain = make_federation(model=norm)
    kept = make_federation(model=norm, strategy={"name": "fedbn"})
    local = set(plain.weights) - set(kept.weights)
    assert local
    assert all(".N." in key for key in local)
    plain.run(rounds=2)
    kept.run(rounds=2)
    assert not same({k: plain.weights[k] for k in kept.weights}, kept.weights)
