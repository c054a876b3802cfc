"""Channel groups: which axes of a network's tensors must be permuted together.

A hidden channel has no name: reordering the channels of a layer, and the inputs of every layer that
reads them, leaves the network's function as it was. A *group* is one such set of channels; the
record below says, for every axis of every tensor of a state_dict, whose channels stand there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedi2i.errors import ConfigError


@dataclass(frozen=True)
class Segment:
    """A run of consecutive entries of one axis.

    Attributes:
        group: the group whose channels stand here; None if their order must not change.
        size: number of channels.
        width: consecutive entries per channel; more than 1 where an image was flattened (rows *
            columns) and in the vectors of spectral normalisation (kernel size).
    """

    group: str | None
    size: int
    width: int = 1

    @property
    def entries(self) -> int:
        """Length of the run on the axis."""
        return self.size * self.width


@dataclass(frozen=True)
class PinnedAxis:
    """An axis that keeps the order of some or all of its entries, and why."""

    key: str
    axis: int
    reason: str


@dataclass(frozen=True)
class ChannelGroups:
    """The channel groups of one network.

    Every key of the network's state_dict is either in ``axes`` or in ``scalars``.

    Attributes:
        axes: state_dict key -> axis -> segments in the order in which they stand. Axes without
            channels (kernel rows and columns) are left out.
        sizes: group -> number of channels, 2 or more. A group is called after the layer that
            first produces its channels.
        order: the groups in forward order.
        pinned: every axis with entries whose order must not change.
        scalars: keys without any channel axis, such as ``num_batches_tracked``.
        dead_biases: biases directly in front of an instance or batch normalisation. They cancel
            out, so they say nothing about a channel; they are permuted all the same.
        scale_free: weight key -> axis of its filters, for filters directly in front of such a
            normalisation: only their direction matters.
        buffers: keys with channels that are no parameters, such as running statistics.
    """

    axes: Mapping[str, Mapping[int, tuple[Segment, ...]]]
    sizes: Mapping[str, int]
    order: tuple[str, ...]
    pinned: tuple[PinnedAxis, ...]
    scalars: tuple[str, ...]
    dead_biases: tuple[str, ...]
    scale_free: Mapping[str, int]
    buffers: tuple[str, ...]

    def groups_of(self, key: str) -> frozenset[str]:
        """The groups whose channels stand on any axis of a tensor; empty for unknown keys."""
        axes = self.axes.get(key, {})
        return frozenset(s.group for axis in axes.values() for s in axis if s.group is not None)

    def to_json(self) -> str:
        """The record as JSON; ``from_json`` gives back an equal record."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ChannelGroups:
        """The record that ``to_json`` wrote.

        Raises:
            ConfigError: the text is no such record.
        """
        try:
            values = json.loads(text)
            axes = {key: _axes_from(axes) for key, axes in values["axes"].items()}
            pinned = tuple(PinnedAxis(**axis) for axis in values["pinned"])
            sequences = {name: tuple(values[name]) for name in _SEQUENCES}
            return cls(**{**values, **sequences, "axes": axes, "pinned": pinned})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"not a record of channel groups: {error!r}") from error


_SEQUENCES = ("order", "scalars", "dead_biases", "buffers")


def _axes_from(axes: dict[str, list[dict[str, Any]]]) -> dict[int, tuple[Segment, ...]]:
    # JSON knows no integer keys.
    return {
        int(axis): tuple(Segment(**segment) for segment in segments)
        for axis, segments in axes.items()
    }
