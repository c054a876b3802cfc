"""Averages of networks and the straight paths between them, and what these lose.

All of it is written as the first network plus differences, so that equal networks give exactly
that network: the barrier between a network and its perfectly matched copy is exactly 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedi2i.errors import ConfigError
from lightning_modules.matching.permutations import Array, State

EXCESS_EDGES = (0.0, 1.0)


def between(one: State, other: State, part: float) -> dict[str, Array]:
    """A network on the straight path between two.

    Args:
        one: where the path begins.
        other: where it ends; of the same keys and shapes.
        part: of the way, from 0 to 1.

    Returns:
        Tensors of the first network's types; integers are the first network's.
    """
    return {key: _moved(value, part * _difference(other[key], value)) for key, value in one.items()}


def centroid(states: Sequence[State]) -> dict[str, Array]:
    """The equally weighted mean of networks whose channels are in one order.

    Raises:
        ConfigError: there is none.
    """
    if not states:
        raise ConfigError("no network to average; give one or more")
    first, *others = states
    return {
        key: _moved(
            value,
            sum((_difference(other[key], value) for other in others), np.zeros(1)) / len(states),
        )
        for key, value in first.items()
    }


def barrier(parts: Sequence[float], losses: Sequence[float]) -> float:
    """The largest excess along a path: how far its loss lies above the straight line of its ends.

    Args:
        parts: of the way, ascending, the first 0 and the last 1.
        losses: of the network at each.

    Returns:
        0 or more, in the unit of the losses: at its ends a path has no excess.

    Raises:
        ConfigError: no such parts, or another number of losses.
    """
    if len(parts) != len(losses) or tuple(parts[:1]) + tuple(parts[-1:]) != EXCESS_EDGES:
        raise ConfigError("a path is measured at parts from 0 to 1, with a loss at each")
    first, last = losses[0], losses[-1]
    return max(
        loss - (first + part * (last - first)) for part, loss in zip(parts, losses, strict=True)
    )


def _difference(other: Array, value: Array) -> Array:
    if not np.issubdtype(value.dtype, np.floating):
        return np.zeros(1)
    return other.astype(np.float64) - value


def _moved(value: Array, by: Array) -> Array:
    if not np.issubdtype(value.dtype, np.floating):
        return value
    return (value + by).astype(value.dtype)
