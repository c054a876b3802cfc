"""The mean of the sites' models, weighted by their samples: what most strategies start from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from lightning_modules.combining.chunks import chunks
from lightning_modules.combining.updates import SiteUpdate, Weights

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


def equal_weights(updates: Sequence[SiteUpdate]) -> list[SiteUpdate]:
    """The same updates, each with the weight of one sample."""
    return [replace(update, samples=1.0) for update in updates]


def sample_shares(updates: Sequence[SiteUpdate]) -> list[float]:
    """Each site's part of all samples; they sum to 1."""
    total = sum(update.samples for update in updates)
    return [update.samples / total for update in updates]


def mean_of(key: str, updates: Sequence[SiteUpdate], shares: Sequence[float]) -> np.ndarray:
    """The mean of one array, in its own type."""
    like = updates[0].weights[key]
    combined = np.empty(like.size, dtype=like.dtype)
    for part, mean in mean_in_chunks(key, updates, shares):
        combined[part] = mean
    return combined.reshape(like.shape)


def mean_in_chunks(
    key: str, updates: Sequence[SiteUpdate], shares: Sequence[float]
) -> Iterator[tuple[slice, np.ndarray]]:
    """The mean of one array, flat, chunk by chunk, in its own type."""
    values = [update.weights[key].reshape(-1) for update in updates]
    kind = values[0].dtype
    partner = key[: -len(_VARIANCE)] + _MEAN
    pooled = key.endswith(f".{_VARIANCE}") and partner in updates[0].weights
    means = [update.weights[partner].reshape(-1) for update in updates] if pooled else []
    for part in chunks(values[0].size):
        found = [value[part] for value in values]
        if not np.issubdtype(kind, np.floating):
            yield part, np.maximum.reduce(found)
            continue
        mean = _mean(found, shares)
        if pooled:
            mean += _variance([value[part] for value in means], shares)
        yield part, mean.astype(kind)


def _variance(values: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
    centre = _mean(values, shares)
    return _mean([(value.astype(np.float64) - centre) ** 2 for value in values], shares)


def _mean(values: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
    mean = np.zeros(values[0].shape, dtype=np.float64)
    for value, share in zip(values, shares, strict=True):
        mean += share * value.astype(np.float64)
    return mean
