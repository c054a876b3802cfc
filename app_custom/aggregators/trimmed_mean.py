"""Coordinate-wise trimmed mean: the extreme values of every coordinate do not count."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from app_custom.aggregation.aggregator import CollectingAggregator
from app_custom.aggregators.coordinatewise import coordinatewise
from app_custom.aggregators.fedmedian import robust_weights
from app_custom.aggregators.site_update import SiteUpdate, Weights
from app_custom.aggregators.weighted_mean import weighted_mean


class TrimmedMeanAggregator(CollectingAggregator):
    """The mean of every coordinate without the trimmed values at each end.

    Yin et al., ICML 2018, arXiv:1803.01498, option II. floor(trim_fraction * sites) values are
    dropped at each end; with trim_fraction 0 and sample weights it is FedAvg bit for bit.

    Args:
        min_sites: fewest updates that make a round.
        trim_fraction: in [0, 0.5).
        sample_weights: as for ``FedMedianAggregator``.
    """

    def __init__(
        self,
        min_sites: int,
        trim_fraction: float,
        sample_weights: bool = False,
        partial_networks: bool = False,
    ) -> None:
        super().__init__(min_sites, partial_networks=partial_networks)
        self._trim_fraction = trim_fraction
        self._sample_weights = sample_weights

    def combine(self, network: str, updates: Sequence[SiteUpdate], anchor: Weights) -> Weights:
        """The trimmed mean of every coordinate."""
        trimmed = trimmed_at_each_end(self._trim_fraction, len(updates))
        if trimmed == 0 and self._sample_weights:
            return weighted_mean(updates)
        weights = robust_weights(updates, self._sample_weights)
        return coordinatewise(updates, weights, partial(trimmed_mean, trimmed=trimmed))


def trimmed_at_each_end(fraction: float, sites: int) -> int:
    """How many values are dropped at each end."""
    return int(fraction * sites + 1e-9)


def trimmed_mean(values: np.ndarray, weights: np.ndarray | None, trimmed: int) -> np.ndarray:
    """Mean without the ``trimmed`` first and last values.

    Args:
        values: (coordinates, sites), rising along the sites.
        weights: positive, the same shape and order; None for equal ones.
        trimmed: values dropped at each end; fewer than half of all.
    """
    inner = slice(trimmed, values.shape[1] - trimmed)
    if weights is None:
        return np.asarray(values[:, inner].mean(axis=1, dtype=np.float64))
    kept = weights[:, inner]
    return np.asarray((values[:, inner] * kept).sum(axis=1) / kept.sum(axis=1))
