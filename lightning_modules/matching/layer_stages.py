"""The stages of FedMA's layer-wise protocol: which tensors are finished when.

In stage s the s-th channel group (in forward order) is matched and averaged. A tensor is finished
with the last group on its axes: its inputs were matched before, its outputs now. Finished tensors
are frozen while the sites train on; after the last stage everything is finished.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lightning_modules.matching.channel_groups import ChannelGroups


def number_of_stages(groups: Iterable[ChannelGroups]) -> int:
    """Rounds of one pass over several networks, which advance side by side; at least 1."""
    return max([1, *(len(network.order) for network in groups)])


def finished_in(groups: ChannelGroups, key: str) -> int:
    """The stage that finishes a tensor; tensors without groups are finished in the first."""
    return max([0, *(groups.order.index(group) for group in groups.groups_of(key))])


def finished_before(stage: int, groups: Mapping[str, ChannelGroups]) -> frozenset[str]:
    """Keys, with the networks' names in front, that are finished when a stage begins."""
    return frozenset(
        f"{name}.{key}"
        for name, network in groups.items()
        for key in [*network.axes, *network.scalars]
        if finished_in(network, key) < stage
    )
