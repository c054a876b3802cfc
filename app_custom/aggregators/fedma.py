"""FedMA, all layers at once: channels are matched before they are averaged."""

from __future__ import annotations

from collections.abc import Sequence

from app_custom.aggregators.matched import MatchedAggregator, bare
from app_custom.aggregators.site_update import SiteUpdate, Weights
from app_custom.aggregators.weighted_mean import weighted_mean
from lightning_modules.matching.alignment import align
from lightning_modules.strategies.realignment import PERMUTATION


class FedMAAggregator(MatchedAggregator):
    """The weighted mean of the sites' models in one channel order.

    Wang et al., ICLR 2020, arXiv:2002.06440, with fixed layer widths (docs/fedma.md). The order is
    that of the model that was sent out; in the first round after independent starts there is none,
    and the sites are matched among themselves. Where no channel moves this is FedAvg bit for bit.

    Args:
        min_sites, initialisation, matching_sweeps, stay_margin: see ``MatchedAggregator``.
        send_permutations: tell the sites how their channels moved, for what they keep by channel.
    """

    def __init__(
        self,
        min_sites: int,
        initialisation: str,
        matching_sweeps: int,
        stay_margin: float,
        send_permutations: bool,
        partial_networks: bool = False,
    ) -> None:
        super().__init__(min_sites, initialisation, matching_sweeps, stay_margin, partial_networks)
        self._send_permutations = send_permutations

    def combine(self, network: str, updates: Sequence[SiteUpdate], anchor: Weights) -> Weights:
        """Match, permute, average."""
        no_reference = self.independent and self.round_number == 0
        moves = align(
            {update.site: bare(update.weights) for update in updates},
            {update.site: update.samples for update in updates},
            self.groups[network],
            None if no_reference else bare(anchor),
            self.settings,
        )
        return weighted_mean(self.aligned(network, updates, moves))

    def arrays_for_sites(self) -> Weights:
        """Every site's last permutations, where sites keep something by channel."""
        if not self._send_permutations:
            return {}
        return {k: v for k, v in self.memory.items() if k.startswith(f"{PERMUTATION}/")}
