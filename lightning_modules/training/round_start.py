"""What a round starts from: the received model, what the site kept, and its strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from lightning_modules.configuration import ExperimentConfig
from lightning_modules.matching.realignment import (
    Groups,
    permutations_for,
    realigned_optimizers,
)
from lightning_modules.seeding import derive_seed
from lightning_modules.sharing.scope import SharingScope
from lightning_modules.training.local_state import LocalState

State = dict[str, Tensor]


@dataclass(frozen=True)
class Kept:
    """What a site kept of the last round it took part in.

    Attributes:
        round_number: that round, or -1.
        state: see ``Learner``.
    """

    round_number: int
    state: LocalState


class RoundStart:
    """Puts together the weights and optimizers that a site's rounds start from.

    Args:
        experiment: the experiment.
        arm: the site's name.
        networks: the model's networks.
        scope: what is shared.
        fresh_state: gives the whole seeded initial model of a seed.
    """

    def __init__(
        self,
        experiment: ExperimentConfig,
        arm: str,
        networks: nn.ModuleDict,
        scope: SharingScope,
        fresh_state: Callable[[int], State],
    ) -> None:
        self._experiment = experiment
        self._arm = arm
        self._networks = networks
        self._scope = scope
        self._fresh_state = fresh_state

    def full_state(self, state: Mapping[str, Tensor], kept: Kept) -> State:
        """A received model together with what this site keeps to itself."""
        local: State | None = kept.state.get("networks")
        if not local:
            local = self._scope.remainder(self._fresh_state(self._experiment.seed))
        return {**local, **state}

    def weights(
        self,
        state: Mapping[str, Tensor],
        kept: Kept,
        round_number: int,
        extras: Mapping[str, Tensor],
    ) -> State:
        """The whole model that a round starts from."""
        strategy = self._experiment.strategy
        if round_number == 0 and strategy.initialisation == "independent":
            return self._fresh_state(
                derive_seed(self._experiment.seed, "independent start", self._arm)
            )
        stages = strategy.record.site.layer_stages
        if stages is not None:
            own, place = kept.state.get("own"), (round_number, self._arm)
            state = stages.start(state, own, kept.round_number, place, extras, self._groups)
        return self.full_state(state, kept)

    def optimizers(self, kept: Kept, extras: Mapping[str, Tensor]) -> list[dict[str, Any]] | None:
        """The kept optimizers, in the channel order of the received model."""
        optimizers: list[dict[str, Any]] | None = kept.state.get("optimizers")
        moves = permutations_for(extras, kept.round_number, self._arm)
        if not optimizers or not moves:
            return optimizers
        networks = dict(self._networks.items())
        return realigned_optimizers(optimizers, networks, self._groups, moves)

    def frozen(self, round_number: int, module: nn.Module) -> list[nn.Parameter]:
        """The parameters that are not trained in a round."""
        stages = self._experiment.strategy.record.site.layer_stages
        if stages is None:
            return []
        finished = stages.finished(round_number, self._groups)
        return [value for key, value in module.named_parameters() if key in finished]

    @cached_property
    def _groups(self) -> Groups:
        # Imported here, as only FedMA needs to trace networks.
        from lightning_modules.matching.network_groups import network_groups

        shared = self._scope.networks
        size = self._experiment.data.preparation.size
        return network_groups(self._networks, self._experiment.model, shared, size)
