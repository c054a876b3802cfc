"""SCAFFOLD's server: the mean model and the mean control variate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from app_custom.aggregation.aggregator import CollectingAggregator
from app_custom.aggregators.known_samples import remember_samples, total_samples
from app_custom.aggregators.site_update import SiteUpdate, Weights, network_of, networks_of
from app_custom.aggregators.weighted_mean import weighted_mean
from lightning_modules.strategies.settings import CONTROL


class ScaffoldAggregator(CollectingAggregator):
    """x <- mean of the sites' models; c <- sum over *all* sites of (n_i / n) c_i.

    Karimireddy et al., ICML 2020, arXiv:1910.06378, algorithm 1 with a global step of 1. Sites send
    the change of their c_i; the server adds up n_i * change and divides by the samples of all
    sites, so that c stays the weighted mean of all c_i when only some sites answer.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({CONTROL})
    is_mean: ClassVar[bool] = True

    def combine(self, network: str, updates: Sequence[SiteUpdate], anchor: Weights) -> Weights:
        """Add up the controls' changes; the model is the weighted mean."""
        remember_samples(self.memory, network, updates)
        for update in updates:
            for name, change in update.arrays.items():
                if network_of(name.partition("/")[2]) == network:
                    total = self.memory.get(name, np.zeros(change.shape, dtype=np.float64))
                    self.memory[name] = total + update.samples * change.astype(np.float64)
        return weighted_mean(updates)

    def arrays_for_sites(self) -> Weights:
        """The control variate c of every parameter that has one."""
        sums = {k: value for k, value in self.memory.items() if k.startswith(f"{CONTROL}/")}
        keys = {name: name.partition("/")[2] for name in sums}
        sites = self.invited()
        totals = {
            network: total_samples(self.memory, network, sites)
            for network in networks_of(keys.values())
        }
        return {
            name: (value / totals[network_of(keys[name])]).astype(np.float32)
            for name, value in sums.items()
        }
