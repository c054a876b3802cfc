"""FedMA as its authors run it: one layer per round, retraining in between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app_custom.aggregators.matched import MatchedAggregator, bare
from app_custom.aggregators.site_update import SiteUpdate, Weights
from app_custom.aggregators.weighted_mean import weighted_mean
from fedi2i.cores import available_cores
from lightning_modules.matching.alignment import worker_threads
from lightning_modules.matching.layer_stages import number_of_stages
from lightning_modules.matching.matching import match
from lightning_modules.matching.permutations import Permutations
from lightning_modules.strategies.realignment import PERMUTATION


class FedMALayerwiseAggregator(MatchedAggregator):
    """In round r the (r mod stages)-th channel group of every network is matched and averaged.

    Wang et al., ICLR 2020, arXiv:2002.06440, algorithm 1, with fixed layer widths. Sites freeze
    what is finished, put the rest of their own model into the new order and train on
    (``lightning_modules.strategies.layerwise``). Between two passes the global model is whole;
    within a pass its unfinished layers are means of unmatched ones and of no use yet.
    """

    def combine(self, network: str, updates: Sequence[SiteUpdate], anchor: Weights) -> Weights:
        """Match one group, permute, average."""
        groups = self.groups[network]
        stage = self.round_number % number_of_stages(self.groups.values())
        first_pass = self.round_number < number_of_stages(self.groups.values())
        if stage >= len(groups.order):
            return weighted_mean(self.aligned(network, updates, {u.site: {} for u in updates}))
        largest = min(updates, key=lambda update: (-update.samples, update.site))
        reference = bare(largest.weights if self.independent and first_pass else anchor)
        # What was matched in earlier stages is in the global order already.
        matched = {g: np.arange(groups.sizes[g], dtype=np.int64) for g in groups.order[:stage]}
        group = groups.order[stage]

        def move(update: SiteUpdate) -> Permutations:
            state = bare(update.weights)
            found = match(reference, state, groups, self.settings, fixed=matched, only=[group])
            return {group: found.permutations[group]}

        with worker_threads(min(len(updates), available_cores())) as pool:
            moves = dict(
                zip([update.site for update in updates], pool.map(move, updates), strict=True)
            )
        return weighted_mean(self.aligned(network, updates, moves))

    def arrays_for_sites(self) -> Weights:
        """Every site's last permutations: it needs them to go on with its own upper layers."""
        return {k: v for k, v in self.memory.items() if k.startswith(f"{PERMUTATION}/")}
