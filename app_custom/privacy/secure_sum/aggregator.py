"""The aggregator of secure aggregation: it holds a sum, never a site's update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nvflare.apis.dxo import MetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.fl_model import FLModel

from app_custom.aggregation.aggregator import Aggregator
from app_custom.nvflare_context import peer_name
from app_custom.privacy.secure_sum.key_exchange import ATTEMPT, MASKED, attempt
from fedi2i.errors import ConfigError
from lightning_modules.combining.known_samples import check_same_samples, claimed_samples
from lightning_modules.combining.updates import (
    SiteUpdate,
    UpdateRefusedError,
    Weights,
    network_of,
    networks_of,
)
from lightning_modules.privacy.integer_code import IntegerCode, check_sum
from lightning_modules.privacy.pairwise_masks import MaskRound, opened
from lightning_modules.strategies.interface import YES


class SecureAggregator(Aggregator):
    """Adds up masked updates and hands their opened mean to the strategy's rule, as one update.

    It refuses what the plain aggregator refuses, as far as it can be seen: rounds, sites, second
    answers, sizes, numbers of samples. NaN, norms and outliers cannot be seen here; sites refuse to
    send what is not finite. The strategy sees the mean alone.

    Args:
        strategy, min_sites: as for ``Aggregator``.
        bits, fraction_bits, bound, slices_per_weight: as for ``IntegerCode``; the same as at the
            sites.
        arguments: the others of ``Aggregator``; a site that cannot train all networks cannot take
            part in a sum, whatever ``partial_networks`` says.

    Raises:
        ConfigError: a strategy that must see single updates, or settings that it does not have.
    """

    def __init__(
        self,
        strategy: Mapping[str, Any],
        min_sites: int,
        bits: int,
        fraction_bits: int,
        bound: float,
        slices_per_weight: int,
        **arguments: Any,
    ) -> None:
        super().__init__(strategy, min_sites, **{**arguments, "partial_networks": False})
        admits = self._strategy.mechanisms.secure_aggregation
        if admits != YES:
            raise ConfigError(
                f"strategy '{self._strategy.name}' does not work on sums under masks: {admits}"
            )
        self._code = IntegerCode(bits, fraction_bits, bound, slices_per_weight)
        self._asked: MaskRound | None = None
        self._totals: dict[str, np.ndarray] = {}
        self._mean: Weights = {}

    @property
    def answered(self) -> tuple[str, ...]:
        """Names of the sites whose answer is in the sum, sorted."""
        return tuple(sorted(self._updates))

    def begin(self, asked: MaskRound) -> None:
        """Forget what was collected and wait for the answers to one attempt at a round.

        Args:
            asked: the round and the sites of the sum.
        """
        with self._turn:
            self.reset_stats()
            self._asked, self._closed = asked, False

    def reset_stats(self) -> None:
        """Forget the round's sum."""
        super().reset_stats()
        self._totals, self._mean = {}, {}

    def accept_model(self, model: FLModel) -> None:
        """Add one site's masked words to the sum.

        Raises:
            UpdateRefusedError: they do not fit the model, or state an impossible number of samples.
        """
        site = peer_name(self.fl_ctx)
        samples = claimed_samples((model.meta or {}).get(MetaKey.NUM_STEPS_CURRENT_ROUND))
        check_same_samples(self._claims, site, samples)
        words = self._checked_words(model.params or {})
        for network, part in words.items():
            if network in self._totals:
                self._totals[network] += part
            else:
                self._totals[network] = part.copy()
        self._claims[site] = samples
        self._updates[site] = SiteUpdate(site, {}, samples)

    def open(self, openings: Mapping[str, bytes]) -> None:
        """Take the sites' own masks off the sum, once it is complete.

        Args:
            openings: the opening of every site of the sum.

        Raises:
            DataError: an opening is missing, or the sum does not hold what the sites stated.
        """
        anchor, asked = self._anchor(), self._asked
        with self._turn:
            self._closed = True
            if asked is None or set(self._updates) != set(asked.sites):
                raise ConfigError("a sum is opened before all its sites have answered")
            weights = [self._code.weight_of(self._updates[site].samples) for site in asked.sites]
            mean: Weights = {}
            for network, total in self._totals.items():
                before = {key: value for key, value in anchor.items() if network_of(key) == network}
                found = self._code.decode(opened(total, network, asked, openings), before)
                check_sum(found, weights)
                for key, value in before.items():
                    mean[key] = (value.astype(np.float64) + found.mean[key]).astype(value.dtype)
            self._mean = mean

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        """Combine the opened mean, or end the job where no sum was opened."""
        if not self._mean:
            self.fl_ctx = fl_ctx
            self.system_panic("no sum of this round was opened", fl_ctx)
            return Shareable()
        return super().aggregate(fl_ctx)

    def _updates_of(self, network: str) -> Sequence[SiteUpdate]:
        """The mean, as the update of one site that holds all samples."""
        sites = ", ".join(self.answered)
        weights = {key: value for key, value in self._mean.items() if network_of(key) == network}
        return [SiteUpdate(sites, weights, sum(u.samples for u in self._updates.values()))]

    def _check_turn(self, site: str, shareable: Shareable, fl_ctx: FLContext) -> None:
        super()._check_turn(site, shareable, fl_ctx)
        asked = self._asked
        if asked is None or site not in asked.sites:
            raise UpdateRefusedError("the site is not in this round's sum")
        if shareable.get_cookie(ATTEMPT) != attempt(asked.number, list(asked.sites)):
            raise UpdateRefusedError("it was masked for another set of sites")

    def _checked_words(self, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
        anchor = self._anchor()
        networks = networks_of(anchor)
        expected = {f"{MASKED}{network}" for network in networks}
        if set(params) != expected:
            odd = min(set(params) ^ expected, key=str)
            raise UpdateRefusedError(f"it does not hold all networks under masks, e.g. '{odd}'")
        words: dict[str, np.ndarray] = {}
        for network in networks:
            part = params[f"{MASKED}{network}"]
            size = sum(value.size for key, value in anchor.items() if network_of(key) == network)
            fits = (
                isinstance(part, np.ndarray)
                and part.dtype == self._code.kind
                and part.shape == (self._code.length(size),)
            )
            if not fits:
                raise UpdateRefusedError(
                    f"'{network}' is not {self._code.length(size)} words of {self._code.bits} bits"
                )
            words[network] = part
        return words
