"""Trimmed mean: the extreme values of every coordinate do not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fedi2i.errors import ConfigError
from fedi2i.typed_config import number, switch
from lightning_modules.combining.robust_means import coordinatewise, robust_weights
from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.strategies.interface import (
    YES,
    Mechanisms,
    Paper,
    ServerRule,
    ServerView,
    Strategy,
)


@dataclass(frozen=True)
class TrimmedMeanSettings:
    """How much is dropped at each end, and how sites weigh."""

    trim_fraction: float = number(
        0.34, high=0.5, meaning="part of the sites' values dropped at each end"
    )
    sample_weights: bool = switch(
        False, meaning="weigh sites by their samples; a hostile site can state any number"
    )


class TrimmedMeanRule(ServerRule):
    """The mean of every coordinate without the trimmed values at each end.

    Yin et al., ICML 2018, arXiv:1803.01498, option II. floor(trim_fraction * sites) values are
    dropped at each end; with trim_fraction 0 and sample weights it is FedAvg bit for bit.
    """

    def combine(
        self, network: str, updates: Sequence[SiteUpdate], anchor: Weights, view: ServerView
    ) -> Weights:
        """The trimmed mean of every coordinate."""
        by_samples = self.settings.sample_weights
        trimmed = trimmed_at_each_end(self.settings.trim_fraction, len(updates))
        if trimmed == 0 and by_samples:
            return weighted_mean(updates)
        weights = robust_weights(updates, by_samples)
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


def _check_sites(settings: TrimmedMeanSettings, sites: int, fewest: int, where: str) -> None:
    fraction = settings.trim_fraction
    if fraction and trimmed_at_each_end(fraction, sites) == 0:
        raise ConfigError(
            f"{where}: strategy.trim_fraction {fraction:g} of {sites} site(s) drops no site; "
            f"take at least {1 / sites:g}, or 0 for the plain mean"
        )


STRATEGY = Strategy(
    name="trimmed_mean",
    label="Trimmed mean",
    does="takes the coordinate-wise mean without extremes",
    paper=Paper(
        "Yin et al., ICML 2018",
        "arXiv:1803.01498",
        "yin2018byzantine",
        "w = mean of the inner values",
    ),
    settings=TrimmedMeanSettings,
    server=TrimmedMeanRule,
    robust=True,
    fedavg_at={"trim_fraction": 0.0, "sample_weights": True},
    check_sites=_check_sites,
    mechanisms=Mechanisms(
        secure_aggregation="what is trimmed depends on every single update",
        update_level_dp=YES,
        patient_level_dp=YES,
        encryption="it sorts the sites' values",
    ),
)
