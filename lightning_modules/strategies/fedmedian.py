"""FedMedian: the coordinate-wise median, which a minority of arbitrary sites cannot move far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedi2i.typed_config import switch
from lightning_modules.combining.robust_means import coordinatewise, robust_weights
from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.strategies.interface import (
    YES,
    Mechanisms,
    Paper,
    ServerRule,
    ServerView,
    Strategy,
)


@dataclass(frozen=True)
class FedMedianSettings:
    """Whether sites weigh as much as the samples that they state."""

    sample_weights: bool = switch(
        False, meaning="weigh sites by their samples; a hostile site can state any number"
    )


class MedianRule(ServerRule):
    """The median of the sites' values of every coordinate.

    Yin et al., ICML 2018, arXiv:1803.01498, option I. With weights it is the weighted median.
    """

    def combine(
        self, network: str, updates: Sequence[SiteUpdate], anchor: Weights, view: ServerView
    ) -> Weights:
        """The median of every coordinate."""
        weights = robust_weights(updates, self.settings.sample_weights)
        return coordinatewise(updates, weights, median)


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


STRATEGY = Strategy(
    name="fedmedian",
    label="FedMedian",
    does="takes the coordinate-wise median instead of the mean",
    paper=Paper(
        "Yin et al., ICML 2018",
        "arXiv:1803.01498",
        "yin2018byzantine",
        "w = median_k w_k",
    ),
    settings=FedMedianSettings,
    server=MedianRule,
    robust=True,
    mechanisms=Mechanisms(
        secure_aggregation="a median needs every single update",
        update_level_dp=YES,
        patient_level_dp=YES,
        encryption="a median sorts the sites' values",
    ),
)
