"""Match channels by what they do: correlations of their activations on a set of slices.

Two channels are alike if they answer alike, whatever their weights are. This needs images where the
models are, which a server does not have: a public set, or one that was computed. A channel's
correlation is taken over all slices and pixels of what its layer makes, before any normalisation
(activation matching of Git Re-Basin, arXiv:2209.04836, section 3.1, and Li et al., ICLR 2016,
arXiv:1511.07543).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedi2i.errors import ConfigError
from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.matching import assign
from lightning_modules.matching.permutations import Permutations, State
from lightning_modules.matching.similarity import FloatArray

_SLICES_AT_ONCE = 8
_SMALLEST_SPREAD = 1e-12


@dataclass
class _Moments:
    """Running sums over slices and pixels, of two networks' channels."""

    count: int
    ours: FloatArray
    theirs: FloatArray
    ours_squared: FloatArray
    theirs_squared: FloatArray
    products: FloatArray

    @classmethod
    def of(cls, channels: int) -> _Moments:
        """All sums at 0."""
        return cls(
            count=0,
            ours=np.zeros(channels),
            theirs=np.zeros(channels),
            ours_squared=np.zeros(channels),
            theirs_squared=np.zeros(channels),
            products=np.zeros((channels, channels)),
        )

    def add(self, ours: FloatArray, theirs: FloatArray) -> None:
        """Add activations, (channels, slices * pixels) each."""
        self.count += ours.shape[1]
        self.ours += ours.sum(axis=1)
        self.theirs += theirs.sum(axis=1)
        self.ours_squared += np.square(ours).sum(axis=1)
        self.theirs_squared += np.square(theirs).sum(axis=1)
        self.products += ours @ theirs.T

    def correlation(self) -> FloatArray:
        """(channels, channels) in [-1, 1]; a channel that is constant is like no other."""
        means = [sums / self.count for sums in (self.ours, self.theirs)]
        squares = (self.ours_squared, self.theirs_squared)
        spreads = [
            np.sqrt(np.maximum(sums / self.count - mean**2, 0.0))
            for sums, mean in zip(squares, means, strict=True)
        ]
        covariance = self.products / self.count - np.outer(*means)
        scale = np.outer(*spreads)
        alive = scale > _SMALLEST_SPREAD
        return np.divide(covariance, scale, out=np.zeros_like(covariance), where=alive)


def activation_correlations(
    networks: tuple[nn.Module, nn.Module], groups: ChannelGroups, slices: Tensor
) -> dict[str, FloatArray]:
    """Correlations of the channels of two networks, group by group.

    Args:
        networks: the reference and the other one; evaluated without dropout and left as they were.
        groups: the channel groups of both.
        slices: inputs of shape (slices, channels, rows, columns), one or more.

    Returns:
        group -> (n, n); row: the reference's channel, column: the other network's.

    Raises:
        ConfigError: no slice, or a group whose layer does not make its channels side by side.
    """
    if len(slices) == 0:
        raise ConfigError("no slices to compare activations on; give one or more")
    sums = {group: _Moments.of(groups.sizes[group]) for group in groups.order}
    for part in torch.split(slices, _SLICES_AT_ONCE):
        ours, theirs = (_activations(network, groups, part) for network in networks)
        for group, moments in sums.items():
            moments.add(ours[group], theirs[group])
    return {group: moments.correlation() for group, moments in sums.items()}


def match_activations(
    networks: tuple[nn.Module, nn.Module], groups: ChannelGroups, slices: Tensor
) -> Permutations:
    """The one-to-one matching of largest correlation in every group, each by itself.

    Arguments and errors as for ``activation_correlations``.

    Returns:
        group -> p with ``aligned[i] = other[p[i]]``.
    """
    found = activation_correlations(networks, groups, slices)
    return {group: assign(correlation) for group, correlation in found.items()}


def load_state(network: nn.Module, state: State) -> nn.Module:
    """Put a state of arrays into a network, and give it back."""
    network.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in state.items()})
    return network


def _activations(
    network: nn.Module, groups: ChannelGroups, slices: Tensor
) -> Mapping[str, FloatArray]:
    """What the layer after which each group is called makes, (channels, slices * pixels)."""
    seen: dict[str, Tensor] = {}
    was_training = network.training
    network.eval()
    with ExitStack() as stack, torch.inference_mode():
        for group in groups.order:
            handle = network.get_submodule(group).register_forward_hook(_keeper(seen, group))
            stack.callback(handle.remove)
        network(slices)
    network.train(was_training)
    return {group: _by_channel(seen, group, groups.sizes[group]) for group in groups.order}


def _keeper(seen: dict[str, Tensor], group: str) -> Any:
    def keep(_: nn.Module, __: Sequence[Any], output: Any) -> None:
        seen.setdefault(group, output)

    return keep


def _by_channel(seen: Mapping[str, Tensor], group: str, size: int) -> FloatArray:
    output = seen.get(group)
    if not isinstance(output, Tensor) or output.ndim < 2 or output.shape[1] != size:
        raise ConfigError(
            f"'{group}' does not make its {size} channels side by side, so that its activations "
            "cannot be compared; match this network by its weights"
        )
    return output.transpose(0, 1).reshape(size, -1).double().numpy()
