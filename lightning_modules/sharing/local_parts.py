"""What an experiment shares: its shared networks without what its strategy keeps at the site."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_modules.configuration import ExperimentConfig
from lightning_modules.model_networks import shared_networks
from lightning_modules.sharing.scope import SharingScope
from lightning_modules.strategies.interface import LocalInputs

if TYPE_CHECKING:
    from torch import nn


def sharing_scope(
    experiment: ExperimentConfig, networks: nn.ModuleDict | None = None
) -> SharingScope:
    """The scope of an experiment.

    Args:
        experiment: the experiment.
        networks: its networks, where they are at hand; else they are built.
    """
    names = shared_networks(experiment.model.described, experiment.sharing)
    strategy = experiment.strategy
    local_parts = strategy.record.site.local_parts
    if local_parts is None:
        return SharingScope(names)
    # Imported here, as most strategies keep nothing local and need not wait for MONAI.
    from lightning_modules.networks.building import build_networks

    built = networks or build_networks(experiment.model, experiment.seed)
    roles = experiment.model.described.roles
    return SharingScope(names, local_parts(LocalInputs(built, names, roles, strategy.settings)))
