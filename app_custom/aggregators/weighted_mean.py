"""The mean of the sites' models, weighted by their samples: what most strategies start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app_custom.aggregators.blocks import blocks
from app_custom.aggregators.site_update import SiteUpdate, Weights

_MEAN, _VARIANCE = "running_mean", "running_var"
"""Names that PyTorch gives BatchNorm's statistics."""


def weighted_mean(updates: Sequence[SiteUpdate]) -> Weights:
    """Sample-weighted mean of every array, summed in float64 in the given order.

    Floating arrays keep their type; integer buffers (such as BatchNorm's step counter) take the
    largest value, since a mean of counts would not be a count. BatchNorm's running variances are
    pooled: the variance of all sites' features is the mean variance plus the variance of the means.
    """
    shares = sample_shares(updates)
    return {key: mean_of(key, updates, shares) for key in updates[0].weights}


def sample_shares(updates: Sequence[SiteUpdate]) -> list[float]:
    """Each site's part of all samples; they sum to 1."""
    total = sum(update.samples for update in updates)
    return [update.samples / total for update in updates]


def mean_of(key: str, updates: Sequence[SiteUpdate], shares: Sequence[float]) -> np.ndarray:
    """The mean of one array, in its own type."""
    values = [update.weights[key] for update in updates]
    if not np.issubdtype(values[0].dtype, np.floating):
        # asarray: numpy reduces arrays without axes to scalars, which are no arrays any more.
        return np.asarray(np.maximum.reduce(values))
    partner = key[: -len(_VARIANCE)] + _MEAN
    if key.endswith(f".{_VARIANCE}") and partner in updates[0].weights:
        means = [update.weights[partner].astype(np.float64) for update in updates]
        centre = _mean(means, shares)
        spread = _mean([(value - centre) ** 2 for value in means], shares)
        pooled: np.ndarray = (_mean(values, shares) + spread).astype(values[0].dtype)
        return pooled
    combined = np.empty(values[0].size, dtype=values[0].dtype)
    flat = [value.reshape(-1) for value in values]
    for part in blocks(combined.size):
        combined[part] = _mean([value[part] for value in flat], shares)
    return combined.reshape(values[0].shape)


def _mean(values: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
    mean = np.zeros(values[0].shape, dtype=np.float64)
    for value, share in zip(values, shares, strict=True):
        mean += share * value.astype(np.float64)
    return mean
