"""Networks whose right alignment is known, to hold a matching against.

A matching that does not undo a planted permutation, or that moves channels of equal networks, says
nothing about networks whose right alignment nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.permutations import (
    Array,
    Permutation,
    Permutations,
    State,
    permute,
)
from lightning_modules.seeding import derive_seed


def random_permutations(groups: ChannelGroups, seed: int) -> Permutations:
    """Permutations of all groups, drawn uniformly."""
    rng = np.random.default_rng(derive_seed(seed, "random permutations"))
    return {group: rng.permutation(groups.sizes[group]) for group in groups.order}


def inverse(permutations: Mapping[str, Permutation]) -> Permutations:
    """The permutations that undo these."""
    return {group: np.argsort(order) for group, order in permutations.items()}


def planted(
    state: State, groups: ChannelGroups, seed: int, noise: float = 0.0
) -> tuple[dict[str, Array], Permutations]:
    """A copy of a network with noise on its weights and its channels in a random order.

    Args:
        state: the network.
        groups: its channel groups.
        seed: of permutations and noise.
        noise: in standard deviations of each tensor.

    Returns:
        The copy, and the permutations that bring its channels back.
    """
    order = random_permutations(groups, seed)
    rng = np.random.default_rng(derive_seed(seed, "planted noise"))
    noisy = {key: _noisy(value, noise, rng) for key, value in state.items()}
    return permute(noisy, groups, order), inverse(order)


def recovered(found: Mapping[str, Permutation], right: Mapping[str, Permutation]) -> float:
    """The part of all channels, in [0, 1], that a matching put into their right places."""
    hits = sum(int((found[group] == order).sum()) for group, order in right.items())
    return hits / max(1, sum(len(order) for order in right.values()))


def moved(permutations: Mapping[str, Permutation]) -> float:
    """The part of all channels, in [0, 1], that change their places."""
    own = {group: np.arange(len(order)) for group, order in permutations.items()}
    return 1.0 - recovered(permutations, own)


def _noisy(value: Array, noise: float, rng: np.random.Generator) -> Array:
    if noise == 0.0 or not np.issubdtype(value.dtype, np.floating):
        return value
    drawn = noise * float(value.std()) * rng.standard_normal(value.shape)
    return (value + drawn).astype(value.dtype)
