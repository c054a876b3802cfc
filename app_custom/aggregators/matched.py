"""What both FedMA aggregators share: the channel groups, and which channels moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from nvflare.app_common.app_constant import AppConstants

from app_custom.aggregation.aggregator import CollectingAggregator
from app_custom.aggregators.site_update import SiteUpdate, Weights
from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.matching import MatchSettings
from lightning_modules.matching.network_groups import network_groups
from lightning_modules.matching.permutations import Permutations, moved_fraction, permute_tensor
from lightning_modules.model_networks import role_of
from lightning_modules.sharing.shared_networks import SharedNetworks
from lightning_modules.strategies.realignment import PERMUTATION, permutation_name


class MatchedAggregator(CollectingAggregator):
    """Traces the networks before the first round and keeps the last permutations of every site.

    Args:
        min_sites: fewest updates that make a round.
        initialisation: ``independent`` if sites drew their own first weights: the first model
            that was sent out is then no reference for anybody's channels.
        matching_sweeps: most sweeps of coordinate descent.
        stay_margin: relative gain below which channels stay.
        partial_networks: see ``CollectingAggregator``.
    """

    def __init__(
        self,
        min_sites: int,
        initialisation: str,
        matching_sweeps: int,
        stay_margin: float,
        partial_networks: bool = False,
    ) -> None:
        super().__init__(min_sites, partial_networks=partial_networks)
        self.independent = initialisation == "independent"
        self.settings = MatchSettings(sweeps=matching_sweeps, stay_margin=stay_margin)
        self.groups: dict[str, ChannelGroups] = {}

    def prepare(self, networks: SharedNetworks) -> None:
        """Trace the shared networks.

        Raises:
            UntraceableNetworkError: a network cannot be traced.
        """
        self.groups = network_groups(networks, networks.config, networks.keys())

    @property
    def round_number(self) -> int:
        """The running round, counted from 0."""
        return int(self.fl_ctx.get_prop(AppConstants.CURRENT_ROUND))

    def aligned(
        self, network: str, updates: Sequence[SiteUpdate], moves: Mapping[str, Permutations]
    ) -> list[SiteUpdate]:
        """The updates in the reference's channel order; notes what moved.

        Args:
            network: their network.
            updates: the sites' updates of it.
            moves: permutations by site.
        """
        self._note_moves(network, moves)
        groups = self.groups[network]
        return [
            replace(update, weights=_Permuted(update.weights, groups, moves[update.site]))
            for update in updates
        ]

    def _note_moves(self, network: str, moves: Mapping[str, Permutations]) -> None:
        metric = f"fedma/moved_{role_of(network)}"
        for site, permutations in sorted(moves.items()):
            fractions = moved_fraction(permutations)
            for group, fraction in fractions.items():
                self.notes.note(site, f"fedma/moved/{network}/{group}", fraction)
                size = len(permutations[group])
                self.notes.add(metric, fraction * size, size)
            self._remember(network, site, permutations, fractions)
        self.notes.add(metric, 0.0, 0.0)  # said even where no group was matched

    def _remember(
        self, network: str, site: str, moves: Permutations, fractions: Mapping[str, float]
    ) -> None:
        """Replace the site's permutations of the network; those that move nothing say nothing."""
        for name in [n for n in self.memory if _belongs(n, site, network)]:
            del self.memory[name]
        for group, permutation in moves.items():
            if fractions[group] > 0.0:
                name = permutation_name(self.round_number, site, network, group)
                self.memory[name] = permutation


def bare(weights: Mapping[str, np.ndarray]) -> Weights:
    """One network's weights without its name in the keys."""
    return {key.split(".", 1)[1]: value for key, value in weights.items()}


class _Permuted(Mapping[str, np.ndarray]):
    """One network's weights in another channel order; an array is reordered when it is asked for.

    So the server need not hold a reordered copy of every site's model.
    """

    def __init__(
        self, weights: Mapping[str, np.ndarray], groups: ChannelGroups, moves: Permutations
    ) -> None:
        self._weights = weights
        self._groups = groups
        self._moves = moves

    def __getitem__(self, key: str) -> np.ndarray:
        """Reorder one array."""
        array = self._weights[key]
        return permute_tensor(key.split(".", 1)[1], array, self._groups, self._moves)

    def __iter__(self) -> Iterator[str]:
        """Names in the order of the update."""
        return iter(self._weights)

    def __len__(self) -> int:
        """Number of arrays."""
        return len(self._weights)


def _belongs(name: str, site: str, network: str) -> bool:
    parts = name.split("/")
    return parts[0] == PERMUTATION and parts[2] == site and parts[3] == network
