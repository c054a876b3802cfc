"""FedAvg with momentum at the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from app_custom.aggregation.aggregator import CollectingAggregator
from app_custom.aggregators.server_step import with_server_step
from app_custom.aggregators.site_update import SiteUpdate, Weights
from app_custom.aggregators.weighted_mean import weighted_mean
from lightning_modules.model_networks import role_of

VELOCITY = "velocity"


class FedAvgMAggregator(CollectingAggregator):
    """v <- momentum * v + update; w <- w + rate * v, the update being the sites' mean minus w.

    Hsu et al. 2019, arXiv:1909.06335. Rate 1 and momentum 0 are FedAvg bit for bit.

    Args:
        min_sites: fewest updates that make a round.
        momentum: in [0, 1).
        learning_rates: step per role.
    """

    def __init__(
        self,
        min_sites: int,
        momentum: float,
        learning_rates: Mapping[str, float],
        partial_networks: bool = False,
    ) -> None:
        super().__init__(min_sites, partial_networks=partial_networks)
        self._momentum = momentum
        self._rates = dict(learning_rates)

    def combine(self, network: str, updates: Sequence[SiteUpdate], anchor: Weights) -> Weights:
        """Mean, momentum, step."""
        rate = self._rates[role_of(network)]

        def step(key: str, update: np.ndarray) -> np.ndarray:
            name = f"{VELOCITY}/{key}"
            velocity = self._momentum * self.memory.get(name, np.zeros_like(update)) + update
            self.memory[name] = velocity
            return np.asarray(rate * velocity)

        return with_server_step(weighted_mean(updates), anchor, self.is_parameter, step)
