"""FedDyn's server: the mean model, moved against the sites' mean drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from app_custom.aggregation.aggregator import CollectingAggregator
from app_custom.aggregators.known_samples import remember_samples, total_samples
from app_custom.aggregators.server_step import with_server_step
from app_custom.aggregators.site_update import SiteUpdate, Weights
from app_custom.aggregators.weighted_mean import weighted_mean
from lightning_modules.model_networks import role_of

DRIFT = "drift"


class FedDynAggregator(CollectingAggregator):
    """h <- h - alpha * sum over answering sites of (n_i / n) (y_i - x); x <- mean(y) - h / alpha.

    Acar et al., ICLR 2021, arXiv:2111.04263, algorithm 1, with sites weighed by their samples; n
    counts all sites. alpha = 0 is FedAvg.

    Args:
        min_sites: fewest updates that make a round.
        alpha: coefficient per role, the same as at the sites.
    """

    def __init__(
        self, min_sites: int, alpha: Mapping[str, float], partial_networks: bool = False
    ) -> None:
        super().__init__(min_sites, partial_networks=partial_networks)
        self._alpha = dict(alpha)

    def combine(self, network: str, updates: Sequence[SiteUpdate], anchor: Weights) -> Weights:
        """Mean, drift, correction."""
        mean = weighted_mean(updates)
        if self._alpha[role_of(network)] == 0.0:
            return mean
        remember_samples(self.memory, network, updates)
        answering = sum(update.samples for update in updates)
        total = total_samples(self.memory, network, self.invited())

        def step(key: str, update: np.ndarray) -> np.ndarray:
            # The memory holds -n h / alpha, the sum of n_i * drift_i: neither alpha nor the samples
            # of sites that are not known yet are in it.
            name = f"{DRIFT}/{key}"
            drift = self.memory.get(name, np.zeros_like(update)) + answering * update
            self.memory[name] = drift
            return np.asarray(update + drift / total)

        return with_server_step(mean, anchor, self.is_parameter, step)
