"""FedDyn at a site: a linear and a quadratic term that make local optima agree with the global one.

Acar et al., ICLR 2021, arXiv:2111.04263. Sites minimise f_i(y) - <h_i, y> + alpha/2 ||y - x||^2,
x being the received model, and sets h_i <- h_i - alpha * (y - x) afterwards. The gradient of the
two terms, alpha * (y - x) - h_i, is added to the task's gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


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
        alpha = self._alpha.get(role, 0.0)
        if alpha == 0.0:
            return None
        terms = torch._foreach_sub(list(parameters), [self._received[key] for key in keys])
        torch._foreach_mul_(terms, alpha)
        torch._foreach_sub_(terms, [self._linear[key] for key in keys])
        return terms

    def linear_terms(self, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
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

    def _alpha_of(self, key: str) -> float:
        return self._alpha.get(self._roles[key.split(".", 1)[0]], 0.0)
