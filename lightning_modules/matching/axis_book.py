"""The book of axes: for every tensor of a state_dict, whose channels stand on which axis."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lightning_modules.matching.channel_union import ChannelUnion
from lightning_modules.matching.layouts import Runs


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
