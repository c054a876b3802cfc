"""The stages of FedMA's layer-wise protocol: which tensors are finished when.

In stage s the s-th channel group (in forward order) is matched and averaged. A tensor is finished
with the last group on its axes: its inputs were matched before, its outputs now. Finished tensors
are frozen while the sites train on. One stage more than there are groups ends the pass: it averages
what makes no matched channels, above all the output layer, after the sites have trained it on the
finished network. So a network of N layers one after the other, with N - 1 groups of channels
between them, takes N rounds, as algorithm 1 of the paper does (Wang et al., ICLR 2020).

Tensors that the rules pin make no matched channels either. They are never frozen within a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lightning_modules.matching.channel_groups import ChannelGroups


def number_of_stages(groups: Iterable[ChannelGroups]) -> int:
    """Rounds of one pass over several networks, which advance side by side; at least 1."""
    return 1 + max([0, *(len(network.order) for network in groups)])


def finished_in(groups: ChannelGroups, key: str, last: int | None = None) -> int:
    """The stage that finishes a tensor.

    Args:
        groups: of the tensor's network.
        key: the tensor.
        last: the last stage of the pass; by default that of a pass over this network alone.
    """
    axes = groups.axes.get(key, {})
    made = axes.get(groups.outputs.get(key, 0), ())
    if not made or any(segment.group is None for segment in made):
        return len(groups.order) if last is None else last
    return max(groups.order.index(group) for group in groups.groups_of(key))


def finished_before(stage: int, groups: Mapping[str, ChannelGroups]) -> frozenset[str]:
    """Keys, with the networks' names in front, that are finished when a stage begins.

    Args:
        stage: a stage of the pass, or the number of stages for the end of it.
        groups: channel groups by network.
    """
    last = number_of_stages(groups.values()) - 1
    return frozenset(
        f"{name}.{key}"
        for name, network in groups.items()
        for key in [*network.axes, *network.scalars]
        if finished_in(network, key, last) < stage
    )
