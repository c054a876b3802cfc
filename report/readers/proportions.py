"""Shares of judgements with intervals that know how many patients stand behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

LEVEL = 0.95


@dataclass(frozen=True)
class Proportion:
    """A share of judgements.

    Attributes:
        count: judgements of which it is true.
        of: all judgements.
        low, high: ends of its 95 % interval; NaN without a judgement.
        patients: whom the judgements are about.
    """

    count: int
    of: int
    low: float
    high: float
    patients: int

    @property
    def share(self) -> float:
        """The share; NaN without a judgement."""
        return self.count / self.of if self.of else math.nan


def proportion(by_patient: Mapping[object, tuple[int, int]]) -> Proportion:
    """A share with the interval of Wilson for so many independent judgements as they are worth.

    Several judgements of one patient are alike. So their number is divided by the design effect of
    patients as clusters (Rao and Scott 1992, doi:10.2307/2532311), kept between 1 and its value
    for patients who are judged alike by all. With one judgement per patient this is Wilson's
    interval as it is.

    Args:
        by_patient: patient to the judgements of which it is true, and to all judgements.
    """
    counts = np.array([pair for pair in by_patient.values() if pair[1]], dtype=float).reshape(-1, 2)
    true, total = int(counts[:, 0].sum()), int(counts[:, 1].sum())
    if not total:
        return Proportion(0, 0, math.nan, math.nan, 0)
    worth = total / design_effect(counts)
    low, high = wilson(true / total, worth)
    return Proportion(true, total, low, high, len(counts))


def design_effect(counts: np.ndarray) -> float:
    """By how much judgements of one patient widen the variance of a share.

    Args:
        counts: (patients, 2), judgements of which it is true, and all judgements; each positive.

    Returns:
        The variance of the ratio over that of as many independent judgements; never below 1, nor
        above that of judgements of which all of one patient are the same: the mean number of
        judgements beside one, itself included. This is also taken where nothing can be
        estimated: for one patient, and where all judgements are the same.
    """
    true, all_of_them = counts[:, 0], counts[:, 1]
    patients, total = len(counts), all_of_them.sum()
    share, largest = true.sum() / total, (all_of_them**2).sum() / total
    if patients < 2 or share in (0.0, 1.0):
        return float(largest)
    residuals = true - share * all_of_them
    variance = patients / (patients - 1) * (residuals**2).sum() / total**2
    return float(np.clip(variance / (share * (1 - share) / total), 1.0, max(largest, 1.0)))


def wilson(share: float, judgements: float) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927, doi:10.1080/01621459.1927.10502953).

    Args:
        share: observed.
        judgements: independent ones behind it, positive; need not be whole.
    """
    z = float(norm.ppf((1 + LEVEL) / 2))
    middle = share + z**2 / (2 * judgements)
    half = z * math.sqrt(share * (1 - share) / judgements + z**2 / (4 * judgements**2))
    scale = 1 + z**2 / judgements
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)
