"""FedAvgM: momentum at the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedi2i.typed_config import number
from lightning_modules.combining.server_step import with_server_step
from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.model_networks import role_of
from lightning_modules.strategies.interface import (
    FASTEST_SERVER,
    YES,
    Mechanisms,
    Paper,
    ServerRule,
    ServerView,
    Strategy,
    by_role,
)

VELOCITY = "velocity"


@dataclass(frozen=True)
class FedAvgMSettings:
    """The server's steps and its momentum; rate 1 and momentum 0 are FedAvg."""

    server_learning_rate_generator: float = number(
        1.0, above=True, most=FASTEST_SERVER, meaning="step along the sites' mean update"
    )
    server_learning_rate_discriminator: float = number(
        1.0, above=True, most=FASTEST_SERVER, meaning="the same for discriminators"
    )
    server_momentum: float = number(0.5, high=1.0, meaning="momentum of the server's step")


class FedAvgMRule(ServerRule):
    """v <- momentum * v + update; w <- w + rate * v, the update being the sites' mean minus w.

    Hsu et al. 2019, arXiv:1909.06335. Rate 1 and momentum 0 are FedAvg bit for bit.
    """

    def combine(
        self, network: str, updates: Sequence[SiteUpdate], anchor: Weights, view: ServerView
    ) -> Weights:
        """Mean, momentum, step."""
        rate = by_role(self.settings, "server_learning_rate")[role_of(network)]

        def step(key: str, update: np.ndarray) -> np.ndarray:
            name = f"{VELOCITY}/{key}"
            before = view.memory.get(name, np.zeros_like(update))
            velocity = self.settings.server_momentum * before + update
            view.memory[name] = velocity
            return np.asarray(rate * velocity)

        return with_server_step(weighted_mean(updates), anchor, view.is_parameter, step)


STRATEGY = Strategy(
    name="fedavgm",
    label="FedAvgM",
    does="adds momentum to the server's step",
    paper=Paper(
        "Hsu et al. 2019",
        "arXiv:1909.06335",
        "hsu2019fedavgm",
        "v <- momentum * v + u; w <- w + rate * v",
    ),
    settings=FedAvgMSettings,
    server=FedAvgMRule,
    fedavg_at={"server_momentum": 0.0},
    # The authors search 0 to 0.997 over thousands of rounds; in a handful of rounds only smaller
    # values than their first positive one, 0.7, can pay.
    grid=tuple({"server_momentum": value} for value in (0.1, 0.3, 0.5, 0.9)),
    mechanisms=Mechanisms(
        secure_aggregation=YES,
        update_level_dp=YES,
        patient_level_dp=YES,
        encryption="the server's momentum is a step in plain weights",
    ),
    published={"server_momentum": 0.9},
    published_in="section 4.2 searches 0, 0.7, 0.9, 0.97, 0.99 and 0.997 with a rate of 1 (and "
    "Nesterov's form); 0.9 is what the code of Reddi et al., ICLR 2021, fixes for FedAvgM",
)
