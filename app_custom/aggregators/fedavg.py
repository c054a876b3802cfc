"""Federated averaging."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app_custom.aggregators.collecting import CollectingAggregator, SiteUpdate, Weights


class FedAvgAggregator(CollectingAggregator):
    """The mean of the sites' models weighted by their training samples.

    McMahan et al., AISTATS 2017, arXiv:1602.05629: w = sum_k (n_k / n) w_k. FedProx uses the same
    mean; its term acts at the sites.
    """

    def combine(self, updates: Sequence[SiteUpdate], anchor: Weights) -> Weights:
        """Weighted mean; see ``weighted_mean``."""
        return weighted_mean(updates)


def weighted_mean(updates: Sequence[SiteUpdate]) -> Weights:
    """Sample-weighted mean of every array, summed in float64 in the given order.

    Floating arrays keep their type; integer buffers (such as BatchNorm's step counter) take the
    largest value, since a mean of counts would not be a count.
    """
    total = sum(update.samples for update in updates)
    shares = [update.samples / total for update in updates]
    return {
        key: _combine([update.weights[key] for update in updates], shares)
        for key in updates[0].weights
    }


def _combine(values: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
    if not np.issubdtype(values[0].dtype, np.floating):
        # asarray: numpy reduces arrays without axes to scalars, which are no arrays any more.
        return np.asarray(np.maximum.reduce(values))
    mean = np.zeros(values[0].shape, dtype=np.float64)
    for value, share in zip(values, shares, strict=True):
        mean += share * value.astype(np.float64)
    combined: np.ndarray = mean.astype(values[0].dtype)
    return combined
