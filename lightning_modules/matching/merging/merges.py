"""The ways of merging finished models that are compared with each other, by name.

Every way gives permutations that bring all networks into the order of the first one; what differs
is only which. The average is then the same for all, with equal weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_modules.matching.alignment import align
from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.matching import MatchSettings, match
from lightning_modules.matching.merging.activations import load_state, match_activations
from lightning_modules.matching.merging.joint import block_coordinate, frank_wolfe
from lightning_modules.matching.permutations import Array, Permutations, State, identity, permute

UNTIL_NOTHING_CHANGES = 60
"""Sweeps; no network of the study took half as many."""


@dataclass(frozen=True)
class Parts:
    """Networks to be merged.

    Attributes:
        states: name -> tensors by state_dict key; two or more. The first keeps its order.
        groups: the channel groups of all.
        build: makes a network of their architecture, for the ways that run it.
        slices: inputs for these, of shape (slices, channels, rows, columns).
    """

    states: Mapping[str, State]
    groups: ChannelGroups
    build: Callable[[], nn.Module]
    slices: Tensor

    @property
    def first(self) -> State:
        """The network whose order all others take."""
        return next(iter(self.states.values()))


Merge = Callable[[Parts], Mapping[str, Permutations]]
"""From networks to permutations of each."""


def aligned(parts: Parts, found: Mapping[str, Permutations]) -> dict[str, dict[str, Array]]:
    """The networks in the order of the first one."""
    return {name: permute(state, parts.groups, found[name]) for name, state in parts.states.items()}


def _plain(parts: Parts) -> Mapping[str, Permutations]:
    return {name: identity(parts.groups) for name in parts.states}


def _pairwise(sweeps: int) -> Merge:
    settings = MatchSettings(sweeps=sweeps)

    def merge(parts: Parts) -> Mapping[str, Permutations]:
        return {
            name: identity(parts.groups)
            if state is parts.first
            else match(parts.first, state, parts.groups, settings).permutations
            for name, state in parts.states.items()
        }

    return merge


def _converged(parts: Parts) -> Mapping[str, Permutations]:
    # align keeps the first by name of the sites with most samples; sites come back in its order.
    names = {f"{place:05d}": name for place, name in enumerate(parts.states)}
    found = align(
        {place: parts.states[name] for place, name in names.items()},
        dict.fromkeys(names, 1.0),
        parts.groups,
        settings=MatchSettings(sweeps=UNTIL_NOTHING_CHANGES),
        workers=1,
    )
    return {name: found[place] for place, name in names.items()}


def _joint(parts: Parts) -> Mapping[str, Permutations]:
    return frank_wolfe(parts.states, parts.groups, _pairwise(2)(parts)).permutations


def _coordinate(parts: Parts) -> Mapping[str, Permutations]:
    return block_coordinate(parts.states, parts.groups, _pairwise(2)(parts)).permutations


def _activations(parts: Parts) -> Mapping[str, Permutations]:
    first, other = parts.build(), parts.build()
    load_state(first, parts.first)
    found = {}
    with torch.no_grad():
        for name, state in parts.states.items():
            if state is parts.first:
                found[name] = identity(parts.groups)
                continue
            pair = (first, load_state(other, state))
            found[name] = match_activations(pair, parts.groups, parts.slices)
    return found


PLAIN = "plain"
MERGES: Mapping[str, Merge] = {
    PLAIN: _plain,
    "forward": _pairwise(0),
    "two-sweeps": _pairwise(2),
    "converged": _converged,
    "joint": _joint,
    "coordinate": _coordinate,
    "activations": _activations,
}
"""``plain`` moves nothing; ``forward`` is the forward pass alone and ``two-sweeps`` adds descent,
both to the first network; ``converged`` is FedMA's first average with descent until nothing
changes; ``joint`` is Frank-Wolfe and ``coordinate`` block-coordinate ascent, both begun from
``two-sweeps``; ``activations`` looks at what channels do."""
