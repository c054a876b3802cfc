"""Permutations of channels, and a network's tensors with their channels permuted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import ConfigError
from lightning_modules.matching.channel_groups import ChannelGroups, Segment

Array = NDArray[Any]
State = Mapping[str, Array]
Permutation = NDArray[np.int64]
# Group -> indices p with aligned[i] = site[p[i]]. A group that is not named keeps its order.
Permutations = dict[str, Permutation]


def identity(groups: ChannelGroups) -> Permutations:
    """Every group in its own order."""
    return {group: np.arange(size, dtype=np.int64) for group, size in groups.sizes.items()}


def permute(
    state: State, groups: ChannelGroups, permutations: Mapping[str, Permutation]
) -> dict[str, Array]:
    """Reorder the channels of all tensors of a state; its network's function stays the same.

    Args:
        state: tensors by state_dict key; some of the network's keys may be missing.
        groups: the network's channel groups.
        permutations: group -> p with ``aligned[i] = state[p[i]]``.

    Returns:
        The reordered tensors. A tensor that keeps its order is the same object: nothing is copied.

    Raises:
        ConfigError: a key, group or shape is not the network's, or an array is no permutation.
    """
    moving = _moving(groups, permutations)
    return {key: _permuted(key, array, groups, moving) for key, array in state.items()}


def permute_tensor(
    key: str,
    array: Array,
    groups: ChannelGroups,
    permutations: Mapping[str, Permutation],
) -> Array:
    """Reorder one array that is shaped like a tensor of the state, such as its Adam moments.

    Args:
        key: the tensor's state_dict key.
        array: of the tensor's shape.
        groups: the network's channel groups.
        permutations: group -> p with ``aligned[i] = array[p[i]]``.

    Raises:
        ConfigError: as for ``permute``.
    """
    return _permuted(key, array, groups, _moving(groups, permutations))


def moved_fraction(permutations: Mapping[str, Permutation]) -> dict[str, float]:
    """Per group, the fraction of channels, in [0, 1], that change their place."""
    return {g: float(np.mean(p != np.arange(len(p)))) for g, p in permutations.items()}


def entry_order(segment: Segment, permutation: Permutation | None) -> Permutation:
    """Order of a segment's entries, counted from its start, when its channels are permuted."""
    if permutation is None:
        return np.arange(segment.entries, dtype=np.int64)
    blocks = permutation[:, np.newaxis] * segment.width + np.arange(segment.width)
    return blocks.reshape(-1)


def check_permutations(permutations: Mapping[str, Permutation], groups: ChannelGroups) -> None:
    """Refuse what are no permutations of a network's groups.

    Raises:
        ConfigError: naming the group.
    """
    for group, p in permutations.items():
        if group not in groups.sizes:
            raise ConfigError(f"permutation of '{group}', which is no group of this network")
        size = groups.sizes[group]
        if p.shape != (size,) or not np.array_equal(np.sort(p), np.arange(size)):
            raise ConfigError(f"'{group}' has {size} channels; got no permutation of them")


def _moving(groups: ChannelGroups, permutations: Mapping[str, Permutation]) -> Permutations:
    """The permutations that move anything, checked."""
    check_permutations(permutations, groups)
    return {g: p for g, p in permutations.items() if not np.array_equal(p, np.arange(len(p)))}


def _permuted(key: str, array: Array, groups: ChannelGroups, moving: Permutations) -> Array:
    if key not in groups.axes:
        if key not in groups.scalars:
            raise ConfigError(f"'{key}' is no tensor of this network")
        return array
    for axis, segments in groups.axes[key].items():
        expected = sum(segment.entries for segment in segments)
        if array.ndim <= axis or array.shape[axis] != expected:
            raise ConfigError(
                f"'{key}' has shape {list(array.shape)}, but axis {axis} holds {expected} entries"
            )
        if any(segment.group in moving for segment in segments):
            array = np.take(array, _axis_order(segments, moving), axis=axis)
    return array


def _axis_order(segments: tuple[Segment, ...], moving: Permutations) -> Permutation:
    parts, start = [], 0
    for segment in segments:
        permutation = None if segment.group is None else moving.get(segment.group)
        parts.append(start + entry_order(segment, permutation))
        start += segment.entries
    return np.concatenate(parts)
