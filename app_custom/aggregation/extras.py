"""Arrays of a strategy that travel beside the model, told apart from parameters by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

PREFIX = "strategy/"
"""No network may be called so: keys of parameters start with a network's name and a dot."""

Value = TypeVar("Value")


def joined(state: Mapping[str, Value], arrays: Mapping[str, Value]) -> dict[str, Value]:
    """Model and strategy arrays in one mapping, as they travel."""
    return {**state, **{f"{PREFIX}{name}": value for name, value in arrays.items()}}


def separated(data: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """The model, and the strategy's arrays by their own names (``control/generator.w``)."""
    # Whoever sent this may have sent keys that are no texts; those are no strategy's.
    names = {key for key in data if isinstance(key, str) and key.startswith(PREFIX)}
    state = {key: value for key, value in data.items() if key not in names}
    return state, {key[len(PREFIX) :]: data[key] for key in names}
