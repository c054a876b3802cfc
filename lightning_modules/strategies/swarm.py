"""Swarm learning: the sites average among themselves, without a server that sees their models."""

from __future__ import annotations

from lightning_modules.strategies.fedavg import WeightedMean
from lightning_modules.strategies.interface import SWARM, Mechanisms, Paper, Strategy

STRATEGY = Strategy(
    name="swarm",
    label="Swarm",
    does="takes the weighted mean at a site that is drawn anew in every round",
    paper=Paper(
        "Warnat-Herresthal et al., Nature 2021",
        "doi:10.1038/s41586-021-03583-3",
        "warnat2021swarm",
        "w = sum_k (n_k / n) w_k, at a drawn site",
    ),
    server=WeightedMean,
    topology=SWARM,
    acts=False,
    fedavg_at={},
    mechanisms=Mechanisms(
        secure_aggregation="sites send their models to each other, past the masks",
        update_level_dp="sites send their models to each other, past the noise",
        encryption="the sites that average hold the key, and would read each other",
    ),
)
