"""FedMA layer by layer: one layer per round, retraining in between.

Wang et al., ICLR 2020, arXiv:2002.06440, algorithm 1, with fixed layer widths and the assignment of
``lightning_modules.matching``. In every round the server matches one more channel group; in the
last round of a pass it averages what is left, the output layer above all
(``lightning_modules.matching.layer_stages``). A site takes the finished tensors from the global
model, puts the rest of its own model of the last round into the new channel order, and trains the
rest on. docs/fedma.md lists what differs from the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedi2i.cores import available_cores
from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.matching.layer_stages import finished_before, number_of_stages
from lightning_modules.matching.permutations import Permutations
from lightning_modules.matching.realignment import permutations_for, realigned_state
from lightning_modules.strategies.fedma import (
    PAPER,
    MatchingSettings,
    aligned,
    last_permutations,
    without_network,
)
from lightning_modules.strategies.interface import (
    YES,
    Groups,
    Mechanisms,
    ServerRule,
    ServerView,
    SiteRule,
    Strategy,
)

if TYPE_CHECKING:
    from torch import Tensor


class LayerwiseRule(ServerRule):
    """In round r the (r mod stages)-th channel group of every network is matched and averaged.

    After the last group, nothing is left to match and the rest is averaged. Between two passes the
    global model is whole; within a pass its unfinished layers are means of unmatched ones and of
    no use yet.
    """

    matches_channels: ClassVar[bool] = True

    def combine(
        self, network: str, updates: Sequence[SiteUpdate], anchor: Weights, view: ServerView
    ) -> Weights:
        """Match one group, permute, average."""
        from lightning_modules.matching.alignment import worker_threads
        from lightning_modules.matching.matching import match

        groups, stages = view.groups[network], number_of_stages(view.groups.values())
        stage, first_pass = view.round_number % stages, view.round_number < stages
        if stage >= len(groups.order):
            return weighted_mean(aligned(network, updates, {u.site: {} for u in updates}, view))
        largest = min(updates, key=lambda update: (-update.samples, update.site))
        start = largest.weights if view.independent and first_pass else anchor
        reference = without_network(start)
        # What was matched in earlier stages is in the global order already.
        matched = {g: np.arange(groups.sizes[g], dtype=np.int64) for g in groups.order[:stage]}
        group, settings = groups.order[stage], self.settings.matching

        def move(update: SiteUpdate) -> Permutations:
            state = without_network(update.weights)
            found = match(reference, state, groups, settings, fixed=matched, only=[group])
            return {group: found.permutations[group]}

        sites = [update.site for update in updates]
        with worker_threads(min(len(updates), available_cores())) as pool:
            moves = dict(zip(sites, pool.map(move, updates), strict=True))
        return weighted_mean(aligned(network, updates, moves, view))

    def extras_for_sites(self, view: ServerView) -> Weights:
        """Every site's last permutations: it needs them to go on with its own upper layers."""
        return last_permutations(view)


class FrozenLayers:
    """The site's half: finished layers are frozen, the others stay the site's own."""

    def finished(self, round_number: int, groups: Groups) -> frozenset[str]:
        """Keys that are frozen in a round; none in the first round of a pass."""
        return finished_before(round_number % number_of_stages(groups.values()), groups)

    def start(
        self,
        received: Mapping[str, Tensor],
        own: Mapping[str, Tensor] | None,
        own_round: int,
        place: tuple[int, str],
        extras: Mapping[str, Tensor],
        groups: Groups,
    ) -> dict[str, Tensor]:
        """The mixture of finished and own layers.

        At the start of a pass, or where the site missed the round before, so that its own layers no
        longer fit, it is the received model.
        """
        round_number, site = place
        finished = self.finished(round_number, groups)
        if not finished or own is None or own_round != round_number - 1:
            return dict(received)
        moved = realigned_state(own, groups, permutations_for(extras, own_round, site))
        return {key: value if key in finished else moved[key] for key, value in received.items()}


def rounds_of_a_pass(groups: Groups) -> int:
    """Rounds until every layer of every shared network is averaged."""
    return number_of_stages(groups.values())


STRATEGY = Strategy(
    name="fedma_layerwise",
    label="FedMA layer by layer",
    does="matches one layer per round and trains the others on",
    paper=PAPER,
    settings=MatchingSettings,
    server=LayerwiseRule,
    site=SiteRule(layer_stages=FrozenLayers()),
    values={"initialisation": "independent"},
    may_start_independently=True,
    rounds_per_pass=rounds_of_a_pass,
    mechanisms=Mechanisms(
        secure_aggregation="it matches the channels of single models",
        update_level_dp="sites go on from layers of their own, not from what they received",
        patient_level_dp=YES,
        encryption="it matches the channels of single models",
    ),
)
