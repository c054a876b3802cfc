"""FedMA, all layers at once: channels are matched before they are averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fedi2i.typed_config import number
from lightning_modules.combining.updates import LazyArrays, SiteUpdate, Weights
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.matching.permutations import Permutations, moved_fraction, permute_tensor
from lightning_modules.matching.realignment import PERMUTATION, permutation_name
from lightning_modules.model_networks import role_of
from lightning_modules.strategies.interface import (
    YES,
    Mechanisms,
    Paper,
    ServerRule,
    ServerView,
    Strategy,
    Variant,
)

if TYPE_CHECKING:
    from lightning_modules.matching.channel_groups import ChannelGroups
    from lightning_modules.matching.matching import MatchSettings


@dataclass(frozen=True)
class MatchingSettings:
    """How hard channels are matched, and when they stay where they are."""

    matching_sweeps: int = number(
        2, most=1000, meaning="most sweeps of coordinate descent after the forward pass"
    )
    stay_margin: float = number(
        0.0, high=1.0, meaning="relative gain below which channels stay where they are"
    )

    @property
    def matching(self) -> MatchSettings:
        """The settings as the matching takes them."""
        from lightning_modules.matching.matching import MatchSettings

        return MatchSettings(sweeps=int(self.matching_sweeps), stay_margin=self.stay_margin)


class FedMARule(ServerRule):
    """The weighted mean of the sites' models in one channel order.

    Wang et al., ICLR 2020, arXiv:2002.06440, with fixed layer widths (docs/fedma.md). The order is
    that of the model that was sent out; in the first round after independent starts there is none,
    and the sites are matched among themselves. Where no channel moves this is FedAvg bit for bit.
    """

    matches_channels: ClassVar[bool] = True

    def combine(
        self, network: str, updates: Sequence[SiteUpdate], anchor: Weights, view: ServerView
    ) -> Weights:
        """Match, permute, average."""
        from lightning_modules.matching.alignment import align

        no_reference = view.independent and view.round_number == 0
        moves = align(
            {update.site: without_network(update.weights) for update in updates},
            {update.site: update.samples for update in updates},
            view.groups[network],
            None if no_reference else without_network(anchor),
            self.settings.matching,
        )
        return weighted_mean(aligned(network, updates, moves, view))

    def extras_for_sites(self, view: ServerView) -> Weights:
        """Every site's last permutations, where sites keep something by channel."""
        return last_permutations(view) if view.sites_keep_optimizers else {}


def aligned(
    network: str,
    updates: Sequence[SiteUpdate],
    moves: Mapping[str, Permutations],
    view: ServerView,
) -> list[SiteUpdate]:
    """The updates in the reference's channel order; notes and remembers what moved.

    Args:
        network: their network.
        updates: the sites' updates of it.
        moves: permutations by site.
        view: receives the notes and keeps the permutations.
    """
    _note_moves(network, moves, view)
    groups = view.groups[network]
    return [
        replace(update, weights=_permuted(update.weights, groups, moves[update.site]))
        for update in updates
    ]


def without_network(weights: Mapping[str, object]) -> Weights:
    """One network's weights without its name in the keys."""
    return {key.split(".", 1)[1]: value for key, value in weights.items()}  # type: ignore[misc]


def last_permutations(view: ServerView) -> Weights:
    """The permutations that were applied last, as they go out to the sites."""
    return {k: v for k, v in view.memory.items() if k.startswith(f"{PERMUTATION}/")}


def _permuted(
    weights: Mapping[str, object], groups: ChannelGroups, moves: Permutations
) -> LazyArrays:
    """The arrays in another channel order, each reordered when it is asked for.

    So the server need not hold a reordered copy of every site's model.
    """
    return LazyArrays(
        weights,
        lambda key: permute_tensor(key.split(".", 1)[1], weights[key], groups, moves),  # type: ignore[arg-type]
    )


def _note_moves(network: str, moves: Mapping[str, Permutations], view: ServerView) -> None:
    metric = f"fedma/moved_{role_of(network)}"
    for site, permutations in sorted(moves.items()):
        fractions = moved_fraction(permutations)
        for group, fraction in fractions.items():
            view.notes.note(site, f"fedma/moved/{network}/{group}", fraction)
            size = len(permutations[group])
            view.notes.add(metric, fraction * size, size)
        _remember(network, site, permutations, fractions, view)
    view.notes.add(metric, 0.0, 0.0)  # said even where no group was matched
    # 0 moved of all channels and 0 moved of none are different results.
    view.notes.add(f"fedma/matchable_{role_of(network)}", *view.groups[network].hidden_channels)


def _remember(
    network: str,
    site: str,
    moves: Permutations,
    fractions: Mapping[str, float],
    view: ServerView,
) -> None:
    """Replace the site's permutations of the network; those that move nothing say nothing."""
    for name in [name for name in view.memory if _belongs(name, site, network)]:
        del view.memory[name]
    for group, permutation in moves.items():
        if fractions[group] > 0.0:
            name = permutation_name(view.round_number, site, network, group)
            view.memory[name] = permutation


def _belongs(name: str, site: str, network: str) -> bool:
    parts = name.split("/")
    return parts[0] == PERMUTATION and parts[2] == site and parts[3] == network


PAPER = Paper(
    "Wang et al., ICLR 2020",
    "arXiv:2002.06440",
    "wang2020fedma",
    "algorithm 1: w = sum_k (n_k / n) P_k w_k",
)
BOTH_STARTS = ("fedavg", "fedavg_independent", "fedma", "fedma_independent")
"""From a common start FedMA is FedAvg, from independent ones it is not (docs/strategies.md): one of
the two alone, or without FedAvg beside it, would mislead."""

STRATEGY = Strategy(
    name="fedma",
    label="FedMA",
    does="matches channels before it takes the mean",
    paper=PAPER,
    settings=MatchingSettings,
    server=FedMARule,
    may_start_independently=True,
    compared_with=BOTH_STARTS,
    # From one common model no channel has a reason to move.
    fedavg_at={},
    variants=(
        Variant(
            "fedma_independent",
            "FedMA, independent start",
            "matches channels of models that started from each site's own weights",
            {"initialisation": "independent"},
        ),
    ),
    mechanisms=Mechanisms(
        secure_aggregation="it matches the channels of single models",
        update_level_dp=YES,
        patient_level_dp=YES,
        shown=("update_noise",),
        encryption="it matches the channels of single models",
    ),
)
