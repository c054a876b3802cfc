"""Several strategies ranked over patients: Friedman's test and Nemenyi's critical difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from report.methods import Method
from report.metrics import Metric
from report.populations import Population
from report.statistics import ALPHA

FEWEST_METHODS = 3
FEWEST_PATIENTS = 2


@dataclass(frozen=True)
class RankTest:
    """Mean ranks of methods over the patients of one population.

    Attributes:
        population: whose patients.
        metric: of which metric.
        n: patients with a value of every method.
        mean_ranks: method -> mean over patients of its rank, 1 being best; equal values share.
        statistic: Friedman's chi squared, corrected for ties.
        p: its p-value.
        critical_difference: mean ranks further apart than this differ (Nemenyi, 0.05).
    """

    population: Population
    metric: Metric
    n: int
    mean_ranks: dict[Method, float]
    statistic: float
    p: float
    critical_difference: float

    def with_the_best(self, method: Method) -> bool:
        """Whether a method cannot be told apart from the one with the best mean rank."""
        return self.mean_ranks[method] - min(self.mean_ranks.values()) <= self.critical_difference


def rank_test(
    patients: pd.DataFrame, population: Population, metric: Metric, methods: Sequence[Method]
) -> RankTest | None:
    """Rank the methods patient by patient and test whether they differ at all.

    Friedman (1937, doi:10.1080/01621459.1937.10503522) and Nemenyi as in Demsar (JMLR 7, 2006).

    Args:
        patients: columns method, site, subject, metric, value.
        population: whose patients.
        metric: one with a known direction.
        methods: those to rank; of methods with equal values in all patients give one.

    Returns:
        None with fewer than three methods or two patients, or where all values are equal.
    """
    rows = population.rows(patients[patients["metric"] == metric.name])
    table = rows.pivot(index=["site", "subject"], columns="method", values="value")
    present = [method for method in methods if method.name in table.columns]
    values = table[[method.name for method in present]].dropna().to_numpy(dtype=float)
    if len(present) < FEWEST_METHODS or len(values) < FEWEST_PATIENTS:
        return None
    if metric.higher_is_better is None or (values == values[:, :1]).all():
        return None
    ranks = stats.rankdata(-values if metric.higher_is_better else values, axis=1)
    statistic, p = stats.friedmanchisquare(*ranks.T)
    means = dict(zip(present, map(float, ranks.mean(axis=0)), strict=True))
    difference = critical_difference(len(present), len(values))
    return RankTest(population, metric, len(values), means, float(statistic), float(p), difference)


def critical_difference(methods: int, patients: int) -> float:
    """Nemenyi's: q / sqrt(2) * sqrt(k (k + 1) / (6 N)), q of the studentised range at 0.05."""
    q = float(stats.studentized_range.ppf(1 - ALPHA, methods, math.inf))
    return q / math.sqrt(2) * math.sqrt(methods * (methods + 1) / (6 * patients))


def distinct_methods(
    patients: pd.DataFrame, methods: Sequence[Method]
) -> dict[Method, tuple[Method, ...]]:
    """The methods without copies: the first of those with equal values -> the others like it.

    Strategies that came out bit for bit like another would take places in the ranking twice.
    """
    table = patients.pivot(index=["site", "subject", "metric"], columns="method", values="value")
    found: dict[Method, tuple[Method, ...]] = {}
    for method in methods:
        same = [m for m in found if _equal(table[m.name], table[method.name])]
        if same:
            found[same[0]] = (*found[same[0]], method)
        else:
            found[method] = ()
    return found


def _equal(one: pd.Series[float], other: pd.Series[float]) -> bool:
    first: npt.NDArray[np.float64] = one.to_numpy(dtype=float)
    return bool(np.array_equal(first, other.to_numpy(dtype=float), equal_nan=True))
