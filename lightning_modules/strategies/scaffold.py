"""SCAFFOLD: gradients corrected by control variates, in gradient space.

Karimireddy et al., ICML 2020, arXiv:1910.06378. The paper corrects SGD steps, y <- y - eta *
(g(y) + c - c_i), and updates c_i from the distance travelled (option II). A GAN trains with Adam,
whose steps are no multiples of gradients; correcting after the optimizer, as some codes do, is
worse than no correction. Here c - c_i is added to the gradient *before* the optimizer, and c_i
becomes the mean of the site's uncorrected gradients over the round. For plain SGD the latter *is*
option II, since (x - y) / (K * eta) is the mean corrected gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fedi2i.typed_config import number
from lightning_modules.combining.known_samples import remember_samples, total_samples
from lightning_modules.combining.updates import SiteUpdate, Weights, network_of, networks_of
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.strategies.interface import (
    YES,
    Mechanisms,
    Paper,
    ServerRule,
    ServerView,
    SiteRule,
    Strategy,
    TermInputs,
)

if TYPE_CHECKING:
    from torch import Tensor

CONTROL = "control"
"""The kind of arrays that sites send (the change of their c_i) and receive (c)."""


@dataclass(frozen=True)
class ScaffoldSettings:
    """How much of the correction is applied."""

    control_weight: float = number(
        1.0, most=10.0, meaning="factor of the control variates; 0 is FedAvg"
    )


class ScaffoldRule(ServerRule):
    """x <- mean of the sites' models; c <- sum over *all* sites of (n_i / n) c_i.

    Algorithm 1 with a global step of 1. Sites send the change of their c_i; the server adds up
    n_i * change and divides by the samples of all sites, so that c stays the weighted mean of all
    c_i when only some sites answer.
    """

    is_mean: ClassVar[bool] = True

    def combine(
        self, network: str, updates: Sequence[SiteUpdate], anchor: Weights, view: ServerView
    ) -> Weights:
        """Add up the controls' changes; the model is the weighted mean."""
        memory = view.memory
        remember_samples(memory, network, updates)
        for update in updates:
            for name, change in update.extras.items():
                if network_of(name.partition("/")[2]) == network:
                    total = memory.get(name, np.zeros(change.shape, dtype=np.float64))
                    memory[name] = total + update.samples * change.astype(np.float64)
        return weighted_mean(updates)

    def extras_for_sites(self, view: ServerView) -> Weights:
        """The control variate c of every parameter that has one."""
        sums = {k: value for k, value in view.memory.items() if k.startswith(f"{CONTROL}/")}
        keys = {name: name.partition("/")[2] for name in sums}
        totals = {
            network: total_samples(view.memory, network, view.sites)
            for network in networks_of(keys.values())
        }
        return {
            name: (value / totals[network_of(keys[name])]).astype(np.float32)
            for name, value in sums.items()
        }


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
        import torch

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
        import torch

        torch._foreach_add_([self._sums[key] for key in keys], list(gradients))
        for key in keys:
            self._steps[key] += 1
        if self._weight == 0.0:
            return None
        return [self._corrections[key] for key in keys]

    def kept(self, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The next c_i, on the CPU; parameters that were not trained keep theirs."""
        return {
            key: (
                total / self._steps[key] if self._steps[key] else _get(self._own, key, total)
            ).cpu()
            for key, total in self._sums.items()
        }

    def extras(self) -> dict[str, Tensor]:
        """What the next c_i adds to the present one, for the parameters that were trained."""
        return {
            f"{CONTROL}/{key}": value - _get(self._own, key, value)
            for key, value in self.kept({}).items()
            if self._steps[key]
        }


def _get(controls: Mapping[str, Tensor], key: str, like: Tensor) -> Tensor:
    import torch

    found = controls.get(key)
    return torch.zeros_like(like) if found is None else found.to(like.device)


def _term(inputs: TermInputs) -> ControlVariates:
    weight = inputs.settings.control_weight
    return ControlVariates(weight, own=inputs.kept, server=inputs.extras_of(CONTROL))


STRATEGY = Strategy(
    name="scaffold",
    label="SCAFFOLD",
    does="corrects gradients at the sites by control variates",
    paper=Paper(
        "Karimireddy et al., ICML 2020",
        "arXiv:1910.06378",
        "karimireddy2020scaffold",
        "algorithm 1: g(y) + c - c_i",
    ),
    settings=ScaffoldSettings,
    server=ScaffoldRule,
    site=SiteRule(gradient_term=_term, extras=(CONTROL,), mirrored=True),
    fedavg_at={"control_weight": 0.0},
    grid=tuple({"control_weight": value} for value in (0.1, 0.3, 0.5, 1.0)),
    mechanisms=Mechanisms(
        secure_aggregation="its controls would need masks of their own",
        update_level_dp="its controls are sums of updates without noise",
        patient_level_dp=YES,
        encryption="its controls are combined in plain weights",
    ),
    published={"control_weight": 1.0},
    published_in="algorithm 1: the correction as it is",
)
