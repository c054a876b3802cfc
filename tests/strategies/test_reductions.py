"""Where its record says so a strategy is FedAvg, bit for bit; where it acts, that shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from in_process_federation import InProcessFederation, same

from lightning_modules.strategies.catalogue import STRATEGIES, STRATEGY_JOBS
from lightning_modules.strategies.interface import STAR

MakeFederation = Callable[..., InProcessFederation]

EQUAL = [
    name
    for name, strategy in STRATEGIES.items()
    if strategy.fedavg_at is not None and strategy.topology == STAR and not strategy.reference
]
"""Strategies whose records say with which settings they are FedAvg."""

ACTING = [
    name
    for name, job in STRATEGY_JOBS.items()
    if job.acts and job.strategy.topology == STAR and not job.is_fedavg
]
"""Jobs whose records say that their action shows."""


@pytest.mark.parametrize("optimizer_state", ["reset", "keep"])
@pytest.mark.parametrize("name", EQUAL)
def test_a_strategy_is_fedavg_bit_for_bit_where_its_record_says_so(
    make_federation: MakeFederation, name: str, optimizer_state: str
) -> None:
    training = {"optimizer_state": optimizer_state}
    plain = make_federation(training=training).run(rounds=3)
    settings = STRATEGIES[name].fedavg_at or {}
    other = make_federation(training=training, strategy={"name": name, **settings})
    assert same(other.run(rounds=3), plain)


@pytest.mark.parametrize("name", ACTING)
def test_a_strategy_that_acts_differs_from_fedavg_and_says_by_how_much(
    make_federation: MakeFederation, name: str
) -> None:
    sites, job = ("east", "north", "south", "west"), STRATEGY_JOBS[name]
    start = {"initialisation": job.values.get("initialisation", "shared")}
    plain = make_federation(sites, strategy={"name": "fedavg", **start})
    other = make_federation(sites, strategy=job.values)
    shown: dict[str, float] = {}
    for _ in range(2):
        other.run()
        shown |= {m: max(value, shown.get(m, 0.0)) for m, value in action(other)}
    if job.strategy.site.personal_term is None:
        assert not same(other.weights, plain.run(rounds=2))
    for role in ("generator", "discriminator"):
        assert max(value for key, value in shown.items() if key.endswith(role)) > 0.0, shown


def action(federation: InProcessFederation) -> list[tuple[str, float]]:
    """The ratios and moved fractions of the last round."""
    at_sites = [pair for r in federation.results.values() for pair in r.metrics.items()]
    at_server = [(metric, value) for _, metric, value in federation.aggregator.diagnostics]
    prefixes = ("strategy/ratio_", "strategy/server_ratio_", "fedma/moved_")
    return [pair for pair in (*at_sites, *at_server) if pair[0].startswith(prefixes)]


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
