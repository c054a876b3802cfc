"""Coordinate-wise median: a minority of arbitrary sites cannot move it far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app_custom.aggregation.aggregator import CollectingAggregator
from app_custom.aggregators.coordinatewise import coordinatewise
from app_custom.aggregators.site_update import SiteUpdate, Weights


class FedMedianAggregator(CollectingAggregator):
    """The median of the sites' values of every coordinate.

    Yin et al., ICML 2018, arXiv:1803.01498, option I. With weights it is the weighted median.

    Args:
        min_sites: fewest updates that make a round.
        sample_weights: weigh sites by the numbers of samples they state. A hostile site can state
            any number, so this gives up robustness against lies about it.
    """

    def __init__(
        self, min_sites: int, sample_weights: bool = False, partial_networks: bool = False
    ) -> None:
        super().__init__(min_sites, partial_networks=partial_networks)
        self._sample_weights = sample_weights

    def combine(self, network: str, updates: Sequence[SiteUpdate], anchor: Weights) -> Weights:
        """The median of every coordinate."""
        return coordinatewise(updates, robust_weights(updates, self._sample_weights), median)


def robust_weights(updates: Sequence[SiteUpdate], by_samples: bool) -> list[float] | None:
    """One weight per site, its samples; or None: all sites weigh the same."""
    return [update.samples for update in updates] if by_samples else None


def median(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The weighted median: the value at which half of all weight is reached.

    Where exactly half lies at or below a value, the mean of it and the next, so that equal weights
    give the ordinary median of an even number of values.

    Args:
        values: (coordinates, sites), rising along the sites.
        weights: positive, the same shape and order; None for equal ones.
    """
    sites = values.shape[1]
    if weights is None:
        low, high = values[:, (sites - 1) // 2], values[:, sites // 2]
    else:
        reached = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
        rows = np.arange(len(values))
        # Shares are sums of rounded fractions; a half is recognised with tolerance.
        low = values[rows, np.argmax(reached >= 0.5 - 1e-9, axis=1)]
        high = values[rows, np.argmax(reached > 0.5 + 1e-9, axis=1)]
    return np.asarray((low.astype(np.float64) + high) / 2.0)
