"""Where channels stand in a tensor while a network is traced."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """Consecutive entries of one axis that belong to one set of channels.

    Attributes:
        channels: number of the set in a ``ChannelUnion``.
        size: number of channels.
        width: consecutive entries per channel.
    """

    channels: int
    size: int
    width: int = 1


Runs = tuple[Run, ...]


@dataclass(frozen=True)
class Layout:
    """A tensor with channels on one axis; entries on all other axes keep their places."""

    axis: int
    runs: Runs


@dataclass(frozen=True)
class Fixed:
    """A tensor whose entries keep their places, and why."""

    reason: str


Value = Layout | Fixed
