"""FedAvg: the mean of the sites' models, weighted by their training samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.strategies.interface import (
    YES,
    Mechanisms,
    Paper,
    ServerRule,
    ServerView,
    Strategy,
    Variant,
)


class WeightedMean(ServerRule):
    """w = sum_k (n_k / n) w_k, over the sites k with n_k training samples each.

    McMahan et al., AISTATS 2017, arXiv:1602.05629. Strategies that act at the sites alone
    (FedProx, FedBN, FedPer, LG-FedAvg, Ditto) use the same rule.
    """

    is_mean: ClassVar[bool] = True

    def combine(
        self, network: str, updates: Sequence[SiteUpdate], anchor: Weights, view: ServerView
    ) -> Weights:
        """Weighted mean; see ``weighted_mean``."""
        return weighted_mean(updates)


STRATEGY = Strategy(
    name="fedavg",
    label="FedAvg",
    does="takes the weighted mean of the sites' models",
    paper=Paper(
        "McMahan et al., AISTATS 2017",
        "arXiv:1602.05629",
        "mcmahan2017fedavg",
        "w = sum_k (n_k / n) w_k",
    ),
    server=WeightedMean,
    acts=False,
    reference=True,
    may_start_independently=True,
    fedavg_at={},
    variants=(
        Variant(
            "fedavg_independent",
            "FedAvg, independent start",
            "takes the weighted mean of models that started from each site's own weights",
            {"initialisation": "independent"},
        ),
    ),
    mechanisms=Mechanisms(
        secure_aggregation=YES,
        update_level_dp=YES,
        shown=("update_noise", "percentile", "svt", "patient_noise", "encryption", "secure_sum"),
        patient_level_dp=YES,
        encryption=YES,
    ),
)
