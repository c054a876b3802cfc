"""FedAdam and FedYogi: adaptive optimizers at the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedi2i.typed_config import number, word
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
    Variant,
    by_role,
    pairs,
)

FIRST, SECOND = "first_moment", "second_moment"


@dataclass(frozen=True)
class FedAdamSettings:
    """The server's adaptive optimizer."""

    server_learning_rate_generator: float = number(
        0.1, above=True, most=FASTEST_SERVER, meaning="step of the server's optimizer"
    )
    server_learning_rate_discriminator: float = number(
        0.1, above=True, most=FASTEST_SERVER, meaning="the same for discriminators"
    )
    server_optimizer: str = word("adam", "adam", "yogi", meaning="rule of the second moment")
    server_beta1: float = number(0.9, high=1.0, meaning="decay of the first moment")
    server_beta2: float = number(0.99, high=1.0, meaning="decay of the second moment")
    server_tau: float = number(
        1e-3,
        above=True,
        most=1.0,
        meaning="adaptivity; the larger, the closer to plain momentum",
    )


class FedAdamRule(ServerRule):
    """m <- b1 m + (1 - b1) u; v as Adam or Yogi; w <- w + rate * m / (sqrt(v) + tau).

    Reddi et al., ICLR 2021, arXiv:2003.00295, algorithm 2; u is the sites' mean minus w. Adam: v <-
    b2 v + (1 - b2) u^2; Yogi: v <- v - (1 - b2) u^2 sign(v - u^2). There is no bias correction and
    v starts at tau squared, as there: torch's Adam differs in both.
    """

    def combine(
        self, network: str, updates: Sequence[SiteUpdate], anchor: Weights, view: ServerView
    ) -> Weights:
        """Mean, moments, step."""
        settings, memory = self.settings, view.memory
        rate = by_role(settings, "server_learning_rate")[role_of(network)]
        beta1, tau = settings.server_beta1, settings.server_tau

        def step(key: str, update: np.ndarray) -> np.ndarray:
            first = memory.get(f"{FIRST}/{key}", np.zeros_like(update))
            second = memory.get(f"{SECOND}/{key}", np.full_like(update, tau**2))
            first = beta1 * first + (1.0 - beta1) * update
            second = self._second(second, update * update)
            memory[f"{FIRST}/{key}"], memory[f"{SECOND}/{key}"] = first, second
            return np.asarray(rate * first / (np.sqrt(second) + tau))

        return with_server_step(weighted_mean(updates), anchor, view.is_parameter, step)

    def _second(self, second: np.ndarray, square: np.ndarray) -> np.ndarray:
        beta2 = self.settings.server_beta2
        if self.settings.server_optimizer == "yogi":
            return np.asarray(second - (1.0 - beta2) * square * np.sign(second - square))
        return np.asarray(beta2 * second + (1.0 - beta2) * square)


STRATEGY = Strategy(
    name="fedadam",
    label="FedAdam",
    does="takes an adaptive step at the server",
    paper=Paper(
        "Reddi et al., ICLR 2021",
        "arXiv:2003.00295",
        "reddi2021adaptive",
        "algorithm 2: w <- w + rate * m / (sqrt(v) + tau)",
    ),
    settings=FedAdamSettings,
    server=FedAdamRule,
    variants=(
        Variant(
            "fedyogi",
            "FedYogi",
            "takes an adaptive step at the server, with Yogi's second moment",
            {"server_optimizer": "yogi", **pairs("server_learning_rate", [0.03])[0]},
        ),
    ),
    grid=pairs("server_learning_rate", [0.003, 0.01, 0.03, 0.1]),
    mechanisms=Mechanisms(
        secure_aggregation=YES,
        update_level_dp=YES,
        patient_level_dp=YES,
        encryption="the server's optimizer squares and divides plain weights",
    ),
    published=pairs("server_learning_rate", [0.01])[0],
    published_in="best server rates in the authors' code, Adam and Yogi alike: 10^0, 10^-1.5, "
    "10^-2.5, 10^-2, 10^-2 and 10^-0.5 for their six tasks; tau 1e-3 is their recommendation",
)
