"""Property of a site: which scanner made the images behind an update?

The attacker has one update of every site (or of every kind of scanner), made from other patients,
and a new update without a name. It takes the common part away and names the site whose known update
points the same way. A federation's server knows its sites anyway; the attack says what an update
gives away to whoever does not, and whether shuffling or hiding the senders would hide them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Linking:
    """How often the right site was named.

    Attributes:
        right: share of the trials.
        chance: what guessing gives, 1 / sites.
        p: how often names in random order do as well, (1 + times) / (1 + permutations).
        trials: number of updates that were named.
    """

    right: float
    chance: float
    p: float
    trials: int


def likenesses(unnamed: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosines between two sets of updates without their common part.

    Args:
        unnamed: (sites, parameters), one update of each site.
        known: same shape, of other patients of the same sites in the same order.

    Returns:
        (sites, sites): row by unnamed update, column by known one.
    """
    common = known.mean(axis=0)
    first, second = _unit(unnamed - common), _unit(known - common)
    cosines: NDArray[np.float64] = first @ second.T
    return cosines


def link(tables: list[NDArray[np.float64]], permutations: int, rng: np.random.Generator) -> Linking:
    """Name every unnamed update, and see how often chance names as many right.

    Args:
        tables: what ``likenesses`` gave, a table per trial of all sites.
        permutations: of the known updates' names within a table.
        rng: draws them.
    """
    sites = len(tables[0])
    named = np.stack([table.argmax(axis=1) for table in tables])
    truth = np.arange(sites)
    right = float((named == truth).mean())
    reached = 0
    for _ in range(permutations):
        drawn = np.stack([rng.permutation(sites) for _ in tables])
        reached += float((named == drawn).mean()) >= right - 1e-12
    return Linking(right, 1 / sites, (1 + reached) / (1 + permutations), named.size)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float64] = vectors / np.maximum(norms, 1e-30)
    return unit
