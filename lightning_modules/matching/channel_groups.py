"""Channel groups: which axes of a network's tensors must be permuted together.

A hidden channel has no name: reordering the channels of a layer, and the inputs of every layer that
reads them, leaves the network's function as it was. A *group* is one such set of channels; the
record below says, for every axis of every tensor of a state_dict, whose channels stand there;
``groups_table`` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NETWORK_OUTPUT = "network output"
"""Why the channels of an output layer are pinned."""


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
        buffers: keys with channels that are no parameters, such as running statistics.
        outputs: weight -> the axis of the channels that its layer makes. Tensors that are not
            listed have an entry per channel on axis 0.
    """

    axes: Mapping[str, Mapping[int, tuple[Segment, ...]]]
    sizes: Mapping[str, int]
    order: tuple[str, ...]
    pinned: tuple[PinnedAxis, ...]
    scalars: tuple[str, ...]
    dead_biases: tuple[str, ...]
    buffers: tuple[str, ...]
    outputs: Mapping[str, int] = field(default_factory=dict)

    def groups_of(self, key: str) -> frozenset[str]:
        """The groups whose channels stand on any axis of a tensor; empty for unknown keys."""
        axes = self.axes.get(key, {})
        return frozenset(s.group for axis in axes.values() for s in axis if s.group is not None)

    @property
    def hidden_channels(self) -> tuple[int, int]:
        """How many hidden channels may change places, and how many there are.

        Counted at the layers' weights, the output layer's apart.
        """
        free = total = 0
        for key, axes in self.axes.items():
            axis = self.outputs.get(key, 0)
            reasons = {pin.reason for pin in self.pinned if (pin.key, pin.axis) == (key, axis)}
            # Of layers that are not known every tensor is pinned, and outputs says nothing.
            weight = key in self.outputs or key.rpartition(".")[2].startswith("weight")
            if not weight or len(axes) < 2 or NETWORK_OUTPUT in reasons:
                continue
            total += sum(segment.size for segment in axes[axis])
            free += sum(segment.size for segment in axes[axis] if segment.group is not None)
        return free, total

    @property
    def matchable(self) -> float:
        """The share of the hidden channels that may change places; 0 of none."""
        free, total = self.hidden_channels
        return free / total if total else 0.0

    @property
    def matchable_text(self) -> str:
        """The share in words, for logs."""
        free, total = self.hidden_channels
        text = f"{free} of {total} hidden channels can be matched ({self.matchable:.0%})"
        return text if free else f"{text}, so that matching is FedAvg for this network"


def groups_table(groups: ChannelGroups) -> str:
    """A table of all tensors: whose channels stand on their axes, and why some are pinned.

    Groups are numbered in forward order; ``3[64]`` are the 64 channels of group 3, ``pinned[1]``
    is an entry that keeps its place, ``3[64x16]`` has 16 entries per channel.
    """
    numbers = {group: str(number) for number, group in enumerate(groups.order, start=1)}
    sections = [
        _aligned([("group", "channels", "first made by"), *_group_rows(groups, numbers)]),
        _aligned([("tensor", "axes", "note"), *_tensor_rows(groups, numbers)]),
    ]
    return "\n\n".join(sections) + "\n"


def _group_rows(groups: ChannelGroups, numbers: dict[str, str]) -> list[tuple[str, ...]]:
    return [(numbers[group], str(groups.sizes[group]), group) for group in groups.order]


def _tensor_rows(groups: ChannelGroups, numbers: dict[str, str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key, axes in groups.axes.items():
        cells = [
            f"{axis}: " + " + ".join(_cell(segment, numbers) for segment in segments)
            for axis, segments in axes.items()
        ]
        rows.append((key, "  ".join(cells), _note(groups, key)))
    return rows + [(key, "none", "") for key in groups.scalars]


def _cell(segment: Segment, numbers: dict[str, str]) -> str:
    name = "pinned" if segment.group is None else numbers[segment.group]
    width = f"x{segment.width}" if segment.width > 1 else ""
    return f"{name}[{segment.size}{width}]"


def _note(groups: ChannelGroups, key: str) -> str:
    notes = list(dict.fromkeys(pinned.reason for pinned in groups.pinned if pinned.key == key))
    if key in groups.dead_biases:
        notes.append("cancelled by a normalisation")
    return "; ".join(notes)


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
