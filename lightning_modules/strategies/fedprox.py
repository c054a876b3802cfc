"""FedProx: a pull towards the received global model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedi2i.typed_config import number
from lightning_modules.strategies.fedavg import WeightedMean
from lightning_modules.strategies.interface import (
    STRONGEST_PULL,
    YES,
    Mechanisms,
    Paper,
    SiteRule,
    Strategy,
    TermInputs,
    by_role,
    pairs,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FedProxSettings:
    """Coefficients of the proximal term, one per role."""

    mu_generator: float = number(
        0.01, most=STRONGEST_PULL, meaning="proximal coefficient; 0 is FedAvg"
    )
    mu_discriminator: float = number(
        0.0033, most=STRONGEST_PULL, meaning="the same for discriminators"
    )


class ProximalTerm:
    """The gradient mu * (w - w_t) of the proximal term.

    FedProx adds mu/2 * ||w - w_t||^2 to the local objective (Li et al., MLSys 2020,
    arXiv:1812.06127, equation 2). Ditto trains a personal model under the same term (Li et al.,
    ICML 2021, arXiv:2012.04221, equation 1).

    Args:
        mu: coefficient per role; with 0 a network's gradients are not touched (FedAvg).
        anchors: w_t by key; by default the parameters before the first step.
    """

    def __init__(
        self, mu: Mapping[str, float], anchors: Mapping[str, Tensor] | None = None
    ) -> None:
        self._mu = dict(mu)
        self._given = anchors
        self._anchors: Mapping[str, Tensor] = {}

    def start(self, parameters: Mapping[str, Tensor]) -> None:
        """Remember w_t, on the parameters' device."""
        given = self._given
        self._anchors = (
            parameters
            if given is None
            else {key: given[key].to(value.device) for key, value in parameters.items()}
        )

    def additions(
        self, role: str, keys: Sequence[str], parameters: Sequence[Tensor], gradients: Sequence[Any]
    ) -> Sequence[Tensor] | None:
        """The term's gradient, or None where the coefficient is 0."""
        import torch

        mu = self._mu.get(role, 0.0)
        if mu == 0.0:
            return None
        pulls = torch._foreach_sub(list(parameters), [self._anchors[key] for key in keys])
        torch._foreach_mul_(pulls, mu)
        return pulls

    def kept(self, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Nothing: every round has an anchor of its own."""
        return {}

    def extras(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}


def _term(inputs: TermInputs) -> ProximalTerm:
    return ProximalTerm(by_role(inputs.settings, "mu"))


STRATEGY = Strategy(
    name="fedprox",
    label="FedProx",
    does="adds a proximal term at the sites",
    paper=Paper(
        "Li et al., MLSys 2020",
        "arXiv:1812.06127",
        "li2020fedprox",
        "equation 2: + mu/2 ||w - w_t||^2",
    ),
    settings=FedProxSettings,
    server=WeightedMean,
    site=SiteRule(gradient_term=_term),
    fedavg_at={"mu_generator": 0.0, "mu_discriminator": 0.0},
    # The authors' own grid; the discriminator takes a third of each, as its gradients are smaller
    # than those of a generator with lambda_l1 = 100.
    grid=pairs("mu", [0.001, 0.01, 0.1, 1.0], 1 / 3),
    mechanisms=Mechanisms(
        secure_aggregation=YES,
        update_level_dp=YES,
        patient_level_dp=YES,
        shown=("update_noise",),
        encryption=YES,
    ),
    published=pairs("mu", [1.0], 1 / 3)[0],
    published_in="section 5.3.2: of 0.001, 0.01, 0.1 and 1 the best is 1 for three of five data "
    "sets, 0.001 and 0.01 for the others; the authors' README knows no default for all",
)
