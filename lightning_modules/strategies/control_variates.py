"""SCAFFOLD at a site: gradients corrected by control variates, in gradient space.

Karimireddy et al., ICML 2020, arXiv:1910.06378. The paper corrects SGD steps, y <- y - eta *
(g(y) + c - c_i), and updates c_i from the distance travelled (option II). A GAN trains with Adam,
whose steps are no multiples of gradients; correcting after the optimizer, as some codes do, is
worse than no correction. Here c - c_i is added to the gradient *before* the optimizer, and c_i
becomes the mean of the site's uncorrected gradients over the round. For plain SGD the latter *is*
option II, since (x - y) / (K * eta) is the mean corrected gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class ControlVariates:
    """The correction weight * (c - c_i), and the next c_i.

    Args:
        weight: factor of the correction; 1 is SCAFFOLD, 0 leaves gradients alone (FedAvg).
        own: c_i by key; missing keys are zero.
        server: c by key; missing keys are zero.
    """

    def __init__(
        self, weight: float, own: Mapping[str, Tensor], server: Mapping[str, Tensor]
    ) -> None:
        self._weight = weight
        self._own = own
        self._server = server
        self._corrections: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._steps: dict[str, int] = {}

    def start(self, parameters: Mapping[str, Tensor]) -> None:
        """Prepare the correction on the parameters' device; it is constant over a round."""
        self._steps = dict.fromkeys(parameters, 0)
        self._sums = {key: torch.zeros_like(value) for key, value in parameters.items()}
        self._corrections = {
            key: self._weight * (_get(self._server, key, value) - _get(self._own, key, value))
            for key, value in parameters.items()
        }

    def additions(
        self, role: str, keys: Sequence[str], parameters: Sequence[Tensor], gradients: Sequence[Any]
    ) -> Sequence[Tensor] | None:
        """The correction; the task's gradients are added up on the way."""
        torch._foreach_add_([self._sums[key] for key in keys], list(gradients))
        for key in keys:
            self._steps[key] += 1
        if self._weight == 0.0:
            return None
        return [self._corrections[key] for key in keys]

    def controls(self) -> dict[str, Tensor]:
        """The next c_i, on the CPU; parameters that were not trained keep theirs."""
        return {
            key: (
                total / self._steps[key] if self._steps[key] else _get(self._own, key, total)
            ).cpu()
            for key, total in self._sums.items()
        }

    def changes(self) -> dict[str, Tensor]:
        """What the next c_i adds to the present one, for the parameters that were trained."""
        return {
            key: value - _get(self._own, key, value)
            for key, value in self.controls().items()
            if self._steps[key]
        }


def _get(controls: Mapping[str, Tensor], key: str, like: Tensor) -> Tensor:
    found = controls.get(key)
    return torch.zeros_like(like) if found is None else found.to(like.device)
