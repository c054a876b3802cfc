"""Adaptive optimizers at the server: FedAdam and FedYogi."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from app_custom.aggregation.aggregator import CollectingAggregator
from app_custom.aggregators.server_step import with_server_step
from app_custom.aggregators.site_update import SiteUpdate, Weights
from app_custom.aggregators.weighted_mean import weighted_mean
from lightning_modules.model_networks import role_of

FIRST, SECOND = "first_moment", "second_moment"


class FedAdamAggregator(CollectingAggregator):
    """m <- b1 m + (1 - b1) u; v as Adam or Yogi; w <- w + rate * m / (sqrt(v) + tau).

    Reddi et al., ICLR 2021, arXiv:2003.00295, algorithm 2; u is the sites' mean minus w. Without
    bias correction and with v starting at tau squared, as there: torch's Adam differs in both.

    Args:
        min_sites: fewest updates that make a round.
        second_moment: ``adam``: v <- b2 v + (1 - b2) u^2; ``yogi``: v <- v - (1 - b2) u^2
            sign(v - u^2).
        beta1, beta2: decay rates in [0, 1).
        tau: adaptivity; the larger, the closer to plain momentum.
        learning_rates: step per role.
    """

    def __init__(
        self,
        min_sites: int,
        second_moment: str,
        beta1: float,
        beta2: float,
        tau: float,
        learning_rates: Mapping[str, float],
        partial_networks: bool = False,
    ) -> None:
        super().__init__(min_sites, partial_networks=partial_networks)
        self._yogi = second_moment == "yogi"
        self._beta1, self._beta2, self._tau = beta1, beta2, tau
        self._rates = dict(learning_rates)

    def combine(self, network: str, updates: Sequence[SiteUpdate], anchor: Weights) -> Weights:
        """Mean, moments, step."""
        rate = self._rates[role_of(network)]

        def step(key: str, update: np.ndarray) -> np.ndarray:
            first = self.memory.get(f"{FIRST}/{key}", np.zeros_like(update))
            second = self.memory.get(f"{SECOND}/{key}", np.full_like(update, self._tau**2))
            first = self._beta1 * first + (1.0 - self._beta1) * update
            second = self._second(second, update * update)
            self.memory[f"{FIRST}/{key}"], self.memory[f"{SECOND}/{key}"] = first, second
            return np.asarray(rate * first / (np.sqrt(second) + self._tau))

        return with_server_step(weighted_mean(updates), anchor, self.is_parameter, step)

    def _second(self, second: np.ndarray, square: np.ndarray) -> np.ndarray:
        if self._yogi:
            return np.asarray(second - (1.0 - self._beta2) * square * np.sign(second - square))
        return np.asarray(self._beta2 * second + (1.0 - self._beta2) * square)
