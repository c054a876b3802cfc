"""FedProx and Ditto at a site: a pull towards the received global model.

FedProx adds mu/2 * ||w - w_t||^2 to the local objective (Li et al., MLSys 2020, arXiv:1812.06127,
equation 2); its gradient is mu * (w - w_t). Ditto trains a personal model under the same term
(Li et al., ICML 2021, arXiv:2012.04221, equation 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class ProximalTerm:
    """The gradient mu * (w - w_t) of the proximal term.

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
        mu = self._mu.get(role, 0.0)
        if mu == 0.0:
            return None
        pulls = torch._foreach_sub(list(parameters), [self._anchors[key] for key in keys])
        torch._foreach_mul_(pulls, mu)
        return pulls
