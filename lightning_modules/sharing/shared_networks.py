"""The part of a model that a federation shares, as the server builds it from a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fedi2i.typed_config import check_values, record_from
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.model_networks import shared_networks
from lightning_modules.networks.building import build_networks
from lightning_modules.networks.configuration import check_levels
from lightning_modules.sharing.scope import SharingScope


class SharedNetworks(nn.ModuleDict):
    """The shared networks; its state_dict holds exactly the keys that are shared.

    Args:
        model: values of ``ModelConfig`` that differ from its defaults.
        sharing: the sharing scope's name.
        seed: the experiment's seed; gives the initial global model.
        local: dotted prefixes inside the shared networks that stay at the sites.
        size: rows and columns of the prepared slices, for strategies that trace the networks.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        sharing: str,
        seed: int,
        local: Sequence[str] = (),
        size: Sequence[int] | None = None,
    ) -> None:
        where = "job argument 'model'"
        self.config = record_from(ModelConfig, model, where)
        check_values(self.config, where)
        check_levels(self.config.generator, where)
        self.config.discriminator.check_own("discriminator", where)
        self.config.check_module(where)
        names = shared_networks(self.config.described, sharing)
        networks = build_networks(self.config, seed)
        super().__init__({name: networks[name] for name in names})
        self.size = None if size is None else tuple(size)
        self.scope = SharingScope(names, tuple(local))

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """The shared keys only: local parts of the networks are no part of the global model."""
        return self.scope.select(super().state_dict(*args, **kwargs))
