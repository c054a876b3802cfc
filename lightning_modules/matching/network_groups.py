"""The channel groups of all networks of a model."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from lightning_modules.configuration import ModelConfig
from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.tracing import channel_groups
from lightning_modules.networks.building import example_inputs


def network_groups(
    networks: nn.ModuleDict, config: ModelConfig, names: Iterable[str]
) -> dict[str, ChannelGroups]:
    """Trace networks; see ``channel_groups``.

    Args:
        networks: the model's networks.
        config: the model.
        names: the networks to trace.

    Raises:
        UntraceableNetworkError: a network cannot be traced.
    """
    return {name: channel_groups(networks[name], example_inputs(config, name)) for name in names}
