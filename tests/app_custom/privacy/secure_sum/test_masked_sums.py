"""Rounds of secure aggregation end with the plain mean, and the messages tell nothing of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from masked_rounds import SAMPLES, MakeFederation, assert_equal, first_model, plain_mean
from nvflare.apis.dxo import MetaKey, from_shareable

from app_custom.privacy.secure_sum.key_exchange import KEYS, MASKED, OPEN, ROSTER
from app_custom.privacy.update_filters import LEDGER, AddNoise, SpendBudget
from lightning_modules.combining.updates import SiteUpdate
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.strategies.catalogue import STRATEGIES
from lightning_modules.strategies.interface import ServerView


@pytest.mark.parametrize(("bits", "fraction"), [(32, 20), (64, 32)])
def test_the_model_equals_plain_averaging_to_the_stated_precision(
    make: MakeFederation, bits: int, fraction: int
) -> None:
    federation = make(rounds=2, bits=bits, fraction_bits=fraction)
    found = federation.run()
    assert federation.engine.panics() == []
    assert_equal(found, plain_mean(federation, list(SAMPLES), first_model()), fraction)
    names = [name for name, _ in federation.sent]
    assert names == [KEYS, ROSTER, "train", OPEN, "train", OPEN]


def test_no_message_holds_anything_but_words_and_the_numbers_that_always_leave(
    make: MakeFederation,
) -> None:
    federation = make()
    federation.run()
    message = from_shareable(federation.messages["train", "east"])
    assert set(message.data) == {f"{MASKED}generator", f"{MASKED}discriminator"}
    assert set(message.meta) == {MetaKey.NUM_STEPS_CURRENT_ROUND, MetaKey.INITIAL_METRICS}
    words = message.data[f"{MASKED}generator"][:-2].view(np.int32).astype(float)
    site, before = federation.sites["east"], first_model()
    update = np.concatenate(
        [(site.last[key] - before[key]).reshape(-1) for key in ("generator.b", "generator.w")]
    )
    assert abs(np.corrcoef(words, update)[0, 1]) < 0.2  # five standard deviations of 605 values


@pytest.mark.parametrize("strategy", ["fedprox", "fedavgm", "fedadam"])
def test_strategies_that_work_on_the_mean_get_it_as_if_one_site_had_sent_it(
    make: MakeFederation, strategy: str
) -> None:
    federation = make(strategy=strategy)
    found = federation.run()
    record = STRATEGIES[strategy]
    assert record.server is not None
    rule, view = record.server(record.settings()), ServerView(sites=tuple(SAMPLES))
    mean = SiteUpdate("mean", plain_mean(federation, list(SAMPLES), first_model()), 282)
    for network in ("generator", "discriminator"):
        before = {k: v for k, v in first_model().items() if k.startswith(network)}
        expected = rule.combine(network, [mean.for_network(network)], before, view)
        for key, value in expected.items():
            # FedAdam divides by the update's size, so that rounding weighs more.
            np.testing.assert_allclose(found[key], value, atol=2e-5)


def test_all_warnings_and_accepted_rounds_work_on_what_sites_state(make: MakeFederation) -> None:
    federation = make()
    federation.run()
    assert federation.aggregator.accepted_rounds() == dict.fromkeys(SAMPLES, 0)
    assert {u.site: u.samples for u in federation.aggregator._updates.values()} == {}
    assert federation.aggregator._claims == SAMPLES


def test_noise_of_a_sites_own_policy_is_added_under_the_masks(make: MakeFederation) -> None:
    federation = make()
    east = federation.sites["east"]
    norms = {"generator": 5.0, "discriminator": 5.0}
    # Noise of 0.005 on values of about 0.1, whose norms are below the clipping.
    east.policy = (SpendBudget(norms, 1e-3, epsilon=1e9, delta=1e-5), AddNoise())
    found = federation.run()
    assert federation.engine.panics() == []
    weights = {**SAMPLES, "east": 1}  # the policy states one sample, whatever there are
    plain = weighted_mean(
        [SiteUpdate(n, site.last, weights[n]) for n, site in sorted(federation.sites.items())]
    )
    moved = np.concatenate([(found[key] - plain[key]).reshape(-1) for key in plain])
    assert np.std(moved) == pytest.approx(0.005 / sum(weights.values()), rel=0.25)
    ledger = Path(east.engine.get_workspace().get_root_dir()) / "state" / "east" / LEDGER
    assert len(ledger.read_text().splitlines()) == 2  # begun and released
