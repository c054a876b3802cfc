"""FedAvg's mean in a swarm, where NVFlare draws a site that computes it, anew in each round."""

from __future__ import annotations

import itertools

import numpy as np
from nvflare.apis.dxo import from_shareable
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare_fakes import Engine, train_answer, with_peer

from app_custom.aggregation.aggregator import Aggregator

SITES = ("east", "north", "south")
SAMPLES = {"east": 3, "north": 7, "south": 11}


def update(site: str, round_number: int) -> np.ndarray:
    seed = [round_number, SITES.index(site)]
    return np.random.default_rng(seed).normal(size=1000)


class AggregatingSite:
    """A site whose NVFlare controller asks its aggregator, and never resets it."""

    def __init__(self, name: str) -> None:
        self.engine = Engine(name=name, sites=SITES)
        self.aggregator = Aggregator({"name": "fedavg"}, len(SITES))

    def mean(self, order: tuple[str, ...], round_number: int = 0) -> bytes:
        """Aggregate a round whose answers arrive in this order."""
        ctx = self.engine.new_context()
        model = make_model_learnable({"generator.w": np.zeros(1000)}, {})
        ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
        ctx.set_prop(AppConstants.CURRENT_ROUND, round_number, private=True, sticky=True)
        self.aggregator.handle_event(AppEventType.ROUND_STARTED, ctx)
        for site in order:
            answer = train_answer(
                {"generator.w": update(site, round_number)}, SAMPLES[site], round_number
            )
            assert self.aggregator.accept(answer, with_peer(self.engine.new_context(), site))
        combined = self.aggregator.aggregate(self.engine.new_context())
        return bytes(from_shareable(combined).data["generator.w"].tobytes())


def test_the_mean_does_not_depend_on_who_aggregates_nor_on_the_order_of_arrival() -> None:
    total = sum(SAMPLES.values())
    orders = list(itertools.permutations(SITES))
    plain = {sum(SAMPLES[s] / total * update(s, 0) for s in order).tobytes() for order in orders}
    assert len(plain) > 1, "summed as they arrive, these numbers do differ"
    means = {AggregatingSite(name).mean(order) for name in SITES for order in orders}
    assert len(means) == 1


def test_a_site_that_aggregates_twice_in_a_row_takes_the_new_answers() -> None:
    """Measured with NVFlare 2.9.0: without a reset it gave out the mean of the round before."""
    site = AggregatingSite("north")
    first, second = site.mean(SITES, 0), site.mean(SITES, 1)
    assert first == AggregatingSite("east").mean(SITES, 0)
    assert second == AggregatingSite("east").mean(SITES, 1)
    assert first != second
