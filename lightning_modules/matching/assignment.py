"""The one-to-one assignment of channels to channels that makes the sum of similarities largest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from lightning_modules.matching.permutations import Permutation

# Relative to the largest similarity. Far above the rounding of float64 sums (1e-15), so that equal
# channels stay where they are; far below the smallest difference between unequal ones, so that
# nothing else is decided by a channel's present place.
_TIE = 1e-12


def assign(similarity: NDArray[np.float64], stay_margin: float = 0.0) -> Permutation:
    """Which site channel goes to the place of which reference channel (Hungarian method).

    Where assignments are equally good, a channel that is in its place already stays.

    Args:
        similarity: (n, n); row i is the reference's channel i, column j the site's channel j.
        stay_margin: fraction of the best sum, in [0, 1), that moving channels must gain at least;
            otherwise all stay.

    Returns:
        p of shape (n,) with the site's channel p[i] assigned to the reference's channel i.
    """
    size = len(similarity)
    stay = np.arange(size, dtype=np.int64)
    tie = _TIE * float(np.abs(similarity).max(initial=0.0))
    _, columns = linear_sum_assignment(similarity + tie * np.eye(size), maximize=True)
    moved = columns.astype(np.int64)
    best = float(similarity[stay, moved].sum())
    gain = best - float(np.trace(similarity))
    return moved if gain > max(tie, stay_margin * abs(best)) else stay
