"""Channels flowing through one traced graph, from the network's inputs to its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from lightning_modules.matching.axis_book import AxisBook
from lightning_modules.matching.channel_union import ChannelUnion
from lightning_modules.matching.layouts import Fixed, Layout, Runs, Value


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


def known_value(node: fx.Node) -> Any:
    """The node's value with tensors that know their shape and hold no data."""
    return node.meta["value"]


def holds_tensor(value: Any) -> bool:
    """Whether a value is a tensor or a collection with tensors in it."""
    if isinstance(value, tuple | list):
        return any(holds_tensor(item) for item in value)
    if isinstance(value, dict):
        return any(holds_tensor(item) for item in value.values())
    return isinstance(value, Tensor)
