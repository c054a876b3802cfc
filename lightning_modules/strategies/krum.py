"""Krum: the model whose nearest neighbours are closest, instead of a mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedi2i.errors import ConfigError
from fedi2i.typed_config import number, switch
from lightning_modules.combining.distances import squared_distances
from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.combining.weighted_mean import equal_weights, weighted_mean
from lightning_modules.strategies.interface import (
    YES,
    Mechanisms,
    Paper,
    ServerRule,
    ServerView,
    Strategy,
)

MOST_SITES = 100_000


@dataclass(frozen=True)
class KrumSettings:
    """How many sites may be hostile, and how many models are taken."""

    hostile_sites: int = number(
        1,
        most=MOST_SITES,
        meaning="sites that may send anything; proven for at least 2 * this + 3 sites",
    )
    selected: int = number(
        1, most=MOST_SITES, meaning="models whose mean is taken; 0 takes all but the hostile sites'"
    )
    sample_weights: bool = switch(
        False, meaning="weigh the selected sites by their samples instead of equally"
    )


class KrumRule(ServerRule):
    """The mean of the models with the lowest scores; with one selected, that model itself.

    Blanchard et al., NeurIPS 2017, arXiv:1703.02757. The score of a model is the sum of its squared
    distances to its n - f - 2 nearest neighbours, n being the number of answers and f the number of
    hostile sites; at least one neighbour counts. Of equal scores the first site by name wins. Every
    network is chosen for itself, because a site may leave out networks that it cannot train.
    """

    def combine(
        self, network: str, updates: Sequence[SiteUpdate], anchor: Weights, view: ServerView
    ) -> Weights:
        """Score, select, average."""
        hostile, selected = int(self.settings.hostile_sites), int(self.settings.selected)
        wanted = min(selected or max(1, len(updates) - hostile), len(updates))
        chosen = list(updates)
        if wanted < len(updates):
            scores = krum_scores(squared_distances(updates), hostile)
            best = sorted(np.argsort(scores, kind="stable")[:wanted])
            chosen = [updates[index] for index in best]
        sites = {update.site for update in chosen}
        for update in updates:
            view.notes.note(update.site, f"krum/chosen/{network}", float(update.site in sites))
        return weighted_mean(chosen if self.settings.sample_weights else equal_weights(chosen))


def krum_scores(distances: np.ndarray, hostile: int) -> np.ndarray:
    """Every model's sum of squared distances to its nearest neighbours.

    Args:
        distances: squared distances, (models, models), with zeros on the diagonal.
        hostile: number of models that may be arbitrary.

    Returns:
        Scores, (models,); the lower, the closer to the others.
    """
    models = len(distances)
    neighbours = min(max(1, models - hostile - 2), models - 1)
    others = np.sort(distances + np.diag(np.full(models, np.inf)), axis=1)
    return np.asarray(others[:, :neighbours].sum(axis=1))


def _check_sites(settings: KrumSettings, sites: int, fewest: int, where: str) -> None:
    """Of fewer answers a hostile model could be chosen by its name alone, so the fewest count."""
    hostile, selected = int(settings.hostile_sites), int(settings.selected)
    if hostile and fewest < hostile + 3:
        raise ConfigError(
            f"{where}: strategy.hostile_sites is {hostile}, but {fewest} of {sites} sites can make "
            f"a round, which leaves no neighbour to compare a model with; Krum needs at least "
            f"{hostile + 3} in every round, and its proof {2 * hostile + 3}"
        )
    if selected > fewest - hostile:
        raise ConfigError(
            f"{where}: strategy.selected is {selected}, but of {fewest} site(s) with {hostile} "
            f"hostile at most {fewest - hostile} can be taken"
        )


STRATEGY = Strategy(
    name="krum",
    label="Krum",
    does="takes the model that is closest to its nearest neighbours instead of the mean",
    paper=Paper(
        "Blanchard et al., NeurIPS 2017",
        "arXiv:1703.02757",
        "blanchard2017krum",
        "argmin_i of the sum of ||w_i - w_j||^2 over the n - f - 2 nearest j",
    ),
    settings=KrumSettings,
    server=KrumRule,
    robust=True,
    fedavg_at={"hostile_sites": 0, "selected": 0, "sample_weights": True},
    check_sites=_check_sites,
    mechanisms=Mechanisms(
        secure_aggregation="it compares single updates",
        update_level_dp=YES,
        patient_level_dp=YES,
        encryption="it compares single updates",
    ),
)
