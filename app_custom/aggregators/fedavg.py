"""Federated averaging."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from app_custom.aggregation.aggregator import CollectingAggregator
from app_custom.aggregators.site_update import SiteUpdate, Weights
from app_custom.aggregators.weighted_mean import weighted_mean


class FedAvgAggregator(CollectingAggregator):
    """The mean of the sites' models weighted by their training samples.

    McMahan et al., AISTATS 2017, arXiv:1602.05629: w = sum_k (n_k / n) w_k. FedProx, FedBN, FedPer
    and Ditto use the same mean; they act at the sites.
    """

    is_mean: ClassVar[bool] = True

    def combine(self, network: str, updates: Sequence[SiteUpdate], anchor: Weights) -> Weights:
        """Weighted mean; see ``weighted_mean``."""
        return weighted_mean(updates)
