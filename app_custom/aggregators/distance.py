"""Does a strategy act at the server? Its distance from FedAvg, next to FedAvg's own step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app_custom.aggregators.blocks import blocks
from app_custom.aggregators.site_update import SiteUpdate, Weights
from app_custom.aggregators.weighted_mean import mean_of, sample_shares


def squares_from_mean(
    combined: Weights, updates: Sequence[SiteUpdate], anchor: Weights
) -> tuple[float, float]:
    """||combined - mean||^2 and ||mean - anchor||^2 of all floating arrays; FedAvg has 0 and more.

    One array is in memory at a time.
    """
    shares = sample_shares(updates)
    apart, moved = 0.0, 0.0
    for key, value in combined.items():
        if np.issubdtype(value.dtype, np.floating):
            mean = mean_of(key, updates, shares)
            apart += _square(value, mean)
            moved += _square(mean, anchor[key])
    return apart, moved


def _square(one: np.ndarray, other: np.ndarray) -> float:
    first, second = one.reshape(-1), other.reshape(-1)
    differences = (
        np.subtract(first[part], second[part], dtype=np.float64) for part in blocks(first.size)
    )
    return sum(float(difference @ difference) for difference in differences)
