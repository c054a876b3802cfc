"""Distances between models: from the mean (does a strategy act?), and between the sites."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from lightning_modules.combining.chunks import chunks
from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.combining.weighted_mean import mean_in_chunks, sample_shares


def squares_from_mean(
    combined: Weights, updates: Sequence[SiteUpdate], anchor: Weights
) -> tuple[float, float]:
    """||combined - mean||^2 and ||mean - anchor||^2 of all floating arrays; FedAvg has 0 and more.

    One chunk of one array is in memory at a time.
    """
    shares = sample_shares(updates)
    apart, moved = 0.0, 0.0
    for key, value in combined.items():
        if np.issubdtype(value.dtype, np.floating):
            made, sent = value.reshape(-1), anchor[key].reshape(-1)
            for part, mean in mean_in_chunks(key, updates, shares):
                apart += _square(made[part], mean)
                moved += _square(mean, sent[part])
    return apart, moved


def squared_distances(updates: Sequence[SiteUpdate]) -> np.ndarray:
    """||w_i - w_j||^2 between the sites' models, over all floating arrays.

    Returns:
        float64, (sites, sites), symmetric with zeros on the diagonal.
    """
    sites = len(updates)
    found = np.zeros((sites, sites))
    for key, like in updates[0].weights.items():
        if not np.issubdtype(like.dtype, np.floating):
            continue
        flat = [update.weights[key].reshape(-1) for update in updates]
        for part in chunks(like.size):
            for one, other in combinations(range(sites), 2):
                found[one, other] += _square(flat[one][part], flat[other][part])
    return found + found.T


def _square(one: np.ndarray, other: np.ndarray) -> float:
    difference = np.subtract(one, other, dtype=np.float64)
    return float(difference @ difference)
