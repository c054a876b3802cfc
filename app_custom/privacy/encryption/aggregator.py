"""The aggregator of encrypted jobs: it adds up what the sites sent and cannot read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType

from app_custom.aggregation.aggregator import Aggregator
from app_custom.aggregation.received_update import update_from
from app_custom.nvflare_context import peer_name
from app_custom.privacy.encryption.filters import check_admitted
from app_custom.privacy.encryption.keys import server_keys
from fedi2i.errors import ConfigError
from lightning_modules.combining.known_samples import check_same_samples
from lightning_modules.combining.updates import UpdateRefusedError
from lightning_modules.privacy.encrypted_model import EncryptedMean, Layout, layout_of
from lightning_modules.privacy.encrypted_sums import EncryptionError
from lightning_modules.sharing.shared_networks import SharedNetworks


class EncryptedAggregator(Aggregator):
    """Collects one encrypted update per site and makes their sum the global model.

    Of the checks of ``Aggregator`` those remain that need no reading: round, site, networks,
    lengths, number of samples, and that every ciphertext can be added to the others. NaN and
    values out of range are refused at the sites; a hostile site's are not seen.

    Args:
        strategy, min_sites: as for ``Aggregator``.
        arguments: the others of ``Aggregator``.

    Raises:
        ConfigError: a strategy whose rule needs more than a sum.
    """

    def __init__(self, strategy: Mapping[str, Any], min_sites: int, **arguments: Any) -> None:
        super().__init__(strategy, min_sites, **arguments)
        check_admitted(self._strategy)
        self._keys: Any = None
        self._layout: Layout = {}
        self._mean: EncryptedMean | None = None

    def prepare(self, networks: SharedNetworks | None, fl_ctx: FLContext) -> None:
        """Read the server's key, and the layout of the vectors from the seeded networks.

        Raises:
            UserError: there is no key, or the networks hold what no mean is made of.
        """
        super().prepare(networks, fl_ctx)
        self._keys = server_keys(fl_ctx)
        if networks is None:
            raise ConfigError("the job's persistor holds no networks; export the job again")
        state = networks.state_dict()
        self._layout = layout_of({key: np.asarray(value) for key, value in state.items()})
        self.reset_stats()

    def accept_model(self, model: FLModel) -> None:
        """Check and add one encrypted update.

        Raises:
            UpdateRefusedError: it is not encrypted, or cannot be added to the others'.
        """
        if self._mean is None:
            raise UpdateRefusedError("the server has no key to add it up with")
        update = update_from(model, peer_name(self.fl_ctx))
        samples = int(update.samples)
        check_same_samples(self._claims, update.site, samples)
        if update.extras:
            raise UpdateRefusedError("it holds arrays beside the encrypted model")
        try:
            self._mean.add(update.weights, samples)
        except EncryptionError as error:
            raise UpdateRefusedError(str(error)) from error
        self._claims[update.site] = samples
        self._updates[update.site] = replace(update, weights={})

    def aggregate_model(self) -> FLModel:
        """The sum of the updates collected so far, encrypted."""
        if self._mean is None:
            raise ConfigError("the server has no key to add up updates with")
        return FLModel(params_type=ParamsType.FULL, params=self._mean.message(self._anchor()))

    def reset_stats(self) -> None:
        """Forget the round's updates and their sum."""
        super().reset_stats()
        if self._keys is not None:
            self._mean = EncryptedMean(self._layout, self._keys, self._partial)
