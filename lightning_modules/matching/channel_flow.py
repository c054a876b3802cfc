"""Whose channels stand where, while a traced graph is walked from its inputs to its outputs.

A ``Layout`` says which sets of channels stand on one axis of a value. The ``Flow`` holds the layout
of every value; the ``AxisBook`` collects the same for the tensors of the state_dict; and the
``ChannelUnion`` knows which sets share one permutation, and which keep their order and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from lightning_modules.matching.tracing import holds_tensor, known_value

_SINGLE = "a single channel"


@dataclass(frozen=True)
class ChannelRun:
    """Consecutive entries of one axis that belong to one set of channels.

    Attributes:
        channels: number of the set in a ``ChannelUnion``.
        size: number of channels.
        width: consecutive entries per channel.
    """

    channels: int
    size: int
    width: int = 1


Runs = tuple[ChannelRun, ...]


@dataclass(frozen=True)
class Layout:
    """A tensor with channels on one axis; entries on all other axes keep their places."""

    axis: int
    runs: Runs


@dataclass(frozen=True)
class Fixed:
    """A tensor whose entries all keep their places, and why."""

    reason: str


Value = Layout | Fixed


class Flow:
    """What is known about every value while the graph is walked in forward order.

    Attributes:
        network: the traced network.
        union: the sets of channels, shared by all graphs of the network.
        book: what is known about the network's tensors, shared likewise.
        values: where the channels of every node stand.
    """

    def __init__(self, network: nn.Module, union: ChannelUnion, book: AxisBook) -> None:
        self.network = network
        self.union = union
        self.book = book
        self.values: dict[fx.Node, Value] = {}

    def shape(self, node: fx.Node) -> torch.Size:
        """Shape of a node that is one tensor."""
        shape: torch.Size = known_value(node).shape
        return shape

    def tensors(self, node: fx.Node) -> list[fx.Node]:
        """Inputs of a node that hold tensors."""
        return [source for source in node.all_input_nodes if holds_tensor(known_value(source))]

    def single_input(self, node: fx.Node) -> fx.Node | None:
        """The input of a node that turns one tensor into one tensor; None for other nodes."""
        sources = self.tensors(node)
        both = [known_value(value) for value in (*sources, node)]
        return sources[0] if len(both) == 2 and all(isinstance(v, Tensor) for v in both) else None

    def refuse(self, node: fx.Node, reason: str) -> Fixed:
        """Keep the order of all channels that flow into a node, and so of all that flow out."""
        for source in node.all_input_nodes:
            value = self.values[source]
            if isinstance(value, Layout):
                self.union.pin(value.runs, reason)
        return Fixed(reason)

    def runs_on(self, node: fx.Node, axis: int) -> Runs:
        """The channels that stand on an axis of a node.

        Entries keep their places there if the node's channels stand on another axis.
        """
        value = self.values[node]
        if isinstance(value, Layout) and value.axis == axis:
            return value.runs
        reason = value.reason if isinstance(value, Fixed) else "channels stand on another axis"
        return (self.union.pinned(self.shape(node)[axis], reason),)

    def unite(self, all_runs: Sequence[Runs]) -> Runs:
        """Let channels at the same places share one permutation."""
        first, *others = all_runs
        for other in others:
            self.union.unite(first, other)
        return first


class AxisBook:
    """Collects what layers say about their tensors, over all their calls.

    A tensor that two layers share has two keys but one entry: what is written under one key holds
    for the other.
    """

    def __init__(self, network: nn.Module, union: ChannelUnion) -> None:
        self._union = union
        self._tensors: dict[str, Tensor] = {
            key: value
            for key, value in network.state_dict(keep_vars=True).items()
            if isinstance(value, Tensor)
        }
        first: dict[int, str] = {}
        self._canonical = {
            key: first.setdefault(id(tensor), key) for key, tensor in self._tensors.items()
        }
        self._axes: dict[str, dict[int, Runs]] = {}
        self._pinned: dict[str, str] = {}
        self._scalars: set[str] = set()
        self._outputs: dict[str, int] = {}

    def shape(self, key: str) -> torch.Size:
        """Shape of a tensor of the state_dict."""
        return self._tensors[key].shape

    def canonical(self, key: str) -> str:
        """The first of all keys under which a tensor stands in the state_dict."""
        return self._canonical.get(key, key)

    def write(self, key: str, axis: int, runs: Runs) -> None:
        """These channels stand on this axis; they join those that were written there before."""
        if sum(run.size * run.width for run in runs) != self.shape(key)[axis]:
            self._union.pin(runs, "meets a tensor of another size")
            self.pin(key, "meets channels of another number")
            return
        axes = self._axes.setdefault(self._canonical[key], {})
        self._union.unite(axes.setdefault(axis, runs), runs)

    def write_output(self, key: str, axis: int, runs: Runs) -> None:
        """The same for the axis of the channels that the weight's layer makes."""
        self._outputs[self._canonical[key]] = axis
        self.write(key, axis, runs)

    def outputs(self) -> dict[str, int]:
        """The axis of made channels for every key of a weight."""
        return {
            key: self._outputs[self._canonical[key]]
            for key in self._tensors
            if self._canonical[key] in self._outputs
        }

    def write_scalar(self, key: str) -> None:
        """This tensor holds one value for all channels."""
        self._scalars.add(self._canonical[key])

    def pin(self, key: str, reason: str) -> None:
        """All channels of this tensor keep their order; keys of no tensor are ignored."""
        if key in self._canonical:
            self._pinned.setdefault(self._canonical[key], reason)

    def close(self) -> Mapping[str, Mapping[int, Runs]]:
        """Axes of every key with channels. Tensors that nobody wrote about are pinned."""
        for key in self._tensors:
            if self._canonical[key] == key:
                self._settle(key)
        return {
            key: self._axes[self._canonical[key]]
            for key in self._tensors
            if self._canonical[key] in self._axes
        }

    def _settle(self, key: str) -> None:
        if key not in self._axes and key not in self._scalars:
            self._pinned.setdefault(key, "not used by a layer that the rules know")
        if key not in self._pinned:
            return
        reason = self._pinned[key]
        axes = self._axes.setdefault(key, {})
        for runs in axes.values():
            self._union.pin(runs, reason)
        if not axes:
            sizes = enumerate(self.shape(key))
            axes.update({axis: (self._union.pinned(size, reason),) for axis, size in sizes})
        if not axes:
            del self._axes[key]


class ChannelUnion:
    """Sets of channels, each known by its number; sets that are united share one permutation.

    A united set is known by its oldest member, so that numbers follow the forward order.
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._names: list[str] = []
        self._reasons: dict[int, str] = {}

    def new(self, name: str, size: int) -> ChannelRun:
        """A new set of ``size`` channels; a single channel has nothing to permute."""
        if size == 1:
            return self.pinned(size, _SINGLE)
        return self._add(name, size)

    def pinned(self, size: int, reason: str) -> ChannelRun:
        """A new set of ``size`` channels that keep their order."""
        run = self._add("", size)
        self._reasons[run.channels] = reason
        return run

    def pin(self, runs: Sequence[ChannelRun], reason: str) -> None:
        """Keep the order of these channels; the first reason that was given stays."""
        for run in runs:
            self._set_reason(self.root(run.channels), reason)

    def unite(self, one: Sequence[ChannelRun], other: Sequence[ChannelRun]) -> None:
        """Let channels that meet at the same places share one permutation.

        Where both are divided differently, a shared permutation would have to respect both
        divisions; such channels are pinned instead.
        """
        if [(run.size, run.width) for run in one] == [(run.size, run.width) for run in other]:
            for left, right in zip(one, other, strict=True):
                self._join(self.root(left.channels), self.root(right.channels))
        else:
            reason = "meets channels that are divided differently"
            self.pin((*one, *other), reason)

    def root(self, number: int) -> int:
        """The oldest member of a set."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def reason(self, run: ChannelRun) -> str | None:
        """Why these channels keep their order; None if they may be permuted."""
        return self._reasons.get(self.root(run.channels))

    def name(self, run: ChannelRun) -> str:
        """The name of the set that these channels belong to."""
        return self._names[self.root(run.channels)]

    def _add(self, name: str, size: int) -> ChannelRun:
        number = len(self._parents)
        self._parents.append(number)
        self._names.append(name)
        return ChannelRun(number, size)

    def _join(self, one: int, other: int) -> None:
        root, child = min(one, other), max(one, other)
        if root == child:
            return
        self._parents[child] = root
        if child in self._reasons:
            self._set_reason(root, self._reasons.pop(child))

    def _set_reason(self, root: int, reason: str) -> None:
        # Any other reason says more than that there is a single channel.
        if self._reasons.get(root, _SINGLE) == _SINGLE:
            self._reasons[root] = reason
