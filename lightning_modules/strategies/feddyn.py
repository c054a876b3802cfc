"""FedDyn: a linear and a quadratic term that make local optima agree with the global one.

Acar et al., ICLR 2021, arXiv:2111.04263. Sites minimise f_i(y) - <h_i, y> + alpha/2 ||y - x||^2,
x being the received model, and set h_i <- h_i - alpha * (y - x) afterwards. The gradient of the
two terms, alpha * (y - x) - h_i, is added to the task's gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedi2i.typed_config import number
from lightning_modules.combining.known_samples import remember_samples, total_samples
from lightning_modules.combining.server_step import with_server_step
from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.model_networks import role_of
from lightning_modules.strategies.interface import (
    STRONGEST_PULL,
    YES,
    Mechanisms,
    Paper,
    ServerRule,
    ServerView,
    SiteRule,
    Strategy,
    TermInputs,
    by_role,
    pairs,
)

if TYPE_CHECKING:
    from torch import Tensor

DRIFT = "drift"


@dataclass(frozen=True)
class FedDynSettings:
    """Coefficients of the dynamic regulariser, one per role; the same at sites and server."""

    alpha_generator: float = number(
        0.01, most=STRONGEST_PULL, meaning="dynamic regularisation; 0 is FedAvg"
    )
    alpha_discriminator: float = number(
        0.0033, most=STRONGEST_PULL, meaning="the same for discriminators"
    )


class FedDynRule(ServerRule):
    """h <- h - alpha * sum over answering sites of (n_i / n) (y_i - x); x <- mean(y) - h / alpha.

    Algorithm 1, with sites weighed by their samples; n counts all sites. alpha = 0 is FedAvg.
    """

    def combine(
        self, network: str, updates: Sequence[SiteUpdate], anchor: Weights, view: ServerView
    ) -> Weights:
        """Mean, drift, correction."""
        mean = weighted_mean(updates)
        if by_role(self.settings, "alpha")[role_of(network)] == 0.0:
            return mean
        memory = view.memory
        remember_samples(memory, network, updates)
        answering = sum(update.samples for update in updates)
        total = total_samples(memory, network, view.sites)

        def step(key: str, update: np.ndarray) -> np.ndarray:
            # The memory holds -n h / alpha, the sum of n_i * drift_i: neither alpha nor the samples
            # of sites that are not known yet are in it.
            name = f"{DRIFT}/{key}"
            drift = memory.get(name, np.zeros_like(update)) + answering * update
            memory[name] = drift
            return np.asarray(update + drift / total)

        return with_server_step(mean, anchor, view.is_parameter, step)


class DynamicRegularisation:
    """The gradient of FedDyn's terms, and the next h_i.

    Args:
        alpha: coefficient per role; with 0 a network's gradients are not touched (FedAvg).
        linear: h_i by key; missing keys are zero.
        roles: network name (first part of a key) to role.
    """

    def __init__(
        self, alpha: Mapping[str, float], linear: Mapping[str, Tensor], roles: Mapping[str, str]
    ) -> None:
        self._alpha = dict(alpha)
        self._given = linear
        self._roles = roles
        self._received: Mapping[str, Tensor] = {}
        self._linear: dict[str, Tensor] = {}

    def start(self, parameters: Mapping[str, Tensor]) -> None:
        """Remember x, and bring h_i to the parameters' device."""
        import torch

        self._received = parameters
        self._linear = {
            key: self._given[key].to(value.device)
            if key in self._given
            else torch.zeros_like(value)
            for key, value in parameters.items()
        }

    def additions(
        self, role: str, keys: Sequence[str], parameters: Sequence[Tensor], gradients: Sequence[Any]
    ) -> Sequence[Tensor] | None:
        """Alpha * (y - x) - h_i, or None where alpha is 0."""
        import torch

        alpha = self._alpha.get(role, 0.0)
        if alpha == 0.0:
            return None
        terms = torch._foreach_sub(list(parameters), [self._received[key] for key in keys])
        torch._foreach_mul_(terms, alpha)
        torch._foreach_sub_(terms, [self._linear[key] for key in keys])
        return terms

    def kept(self, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The next h_i, on the CPU.

        Args:
            trained: the parameters after the last step, by key; others are ignored.
        """
        return {
            key: (
                linear
                - self._alpha_of(key) * (trained[key].to(linear.device) - self._received[key])
            ).cpu()
            for key, linear in self._linear.items()
        }

    def extras(self) -> dict[str, Tensor]:
        """Nothing: the server works its part out from the models."""
        return {}

    def _alpha_of(self, key: str) -> float:
        return self._alpha.get(self._roles[key.split(".", 1)[0]], 0.0)


def _term(inputs: TermInputs) -> DynamicRegularisation:
    return DynamicRegularisation(by_role(inputs.settings, "alpha"), inputs.kept, inputs.roles)


STRATEGY = Strategy(
    name="feddyn",
    label="FedDyn",
    does="adds a dynamic regulariser at the sites and corrects the mean at the server",
    paper=Paper(
        "Acar et al., ICLR 2021",
        "arXiv:2111.04263",
        "acar2021feddyn",
        "algorithm 1: - <h_i, y> + alpha/2 ||y - x||^2",
    ),
    settings=FedDynSettings,
    server=FedDynRule,
    site=SiteRule(gradient_term=_term, mirrored=True),
    fedavg_at={"alpha_generator": 0.0, "alpha_discriminator": 0.0},
    grid=pairs("alpha", [0.001, 0.01, 0.1, 1.0], 1 / 3),
    mechanisms=Mechanisms(
        secure_aggregation="its server needs every site's samples and updates",
        update_level_dp="its controls are sums of updates without noise",
        patient_level_dp=YES,
        encryption="its controls are combined in plain weights",
    ),
    published=pairs("alpha", [0.01], 1 / 3)[0],
    published_in="`alpha_coef = 1e-2` for CIFAR-10 in the authors' code (alpemreacar/FedDyn, "
    "example_cifar_10.py)",
)
