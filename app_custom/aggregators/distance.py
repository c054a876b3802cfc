"""Does a strategy act at the server? Its distance from FedAvg, next to FedAvg's own step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app_custom.aggregators.site_update import SiteUpdate, Weights
from app_custom.aggregators.weighted_mean import mean_in_blocks, sample_shares


def squares_from_mean(
    combined: Weights, updates: Sequence[SiteUpdate], anchor: Weights
) -> tuple[float, float]:
    """||combined - mean||^2 and ||mean - anchor||^2 of all floating arrays; FedAvg has 0 and more.

    One block of one array is in memory at a time.
    """
    shares = sample_shares(updates)
    apart, moved = 0.0, 0.0
    for key, value in combined.items():
        if np.issubdtype(value.dtype, np.floating):
            made, sent = value.reshape(-1), anchor[key].reshape(-1)
            for part, mean in mean_in_blocks(key, updates, shares):
                apart += _square(made[part], mean)
                moved += _square(mean, sent[part])
    return apart, moved


def _square(one: np.ndarray, other: np.ndarray) -> float:
    difference = np.subtract(one, other, dtype=np.float64)
    return float(difference @ difference)
