"""Ranks of several arms over blocks: Friedman's test and Nemenyi's critical difference.

Friedman (1937, doi:10.1080/01621459.1937.10503522) and Nemenyi as in Demsar (JMLR 7, 2006).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from report.numbers.rows import Population, TableRow
from report.numbers.statistics import ALPHA, Values, values_per_row
from report.run.metrics import Metric

FEWEST_RANKED = 3
FEWEST_BLOCKS = 2


@dataclass(frozen=True)
class Ranks:
    """Mean ranks over blocks.

    Attributes:
        means: of every column, 1 being best; equal values share.
        blocks: number of blocks.
        statistic: Friedman's chi squared, corrected for ties.
        p: its p-value.
        critical_difference: means further apart than this differ (Nemenyi, 0.05).
    """

    means: tuple[float, ...]
    blocks: int
    statistic: float
    p: float
    critical_difference: float

    def alike(self) -> tuple[tuple[int, ...], ...]:
        """The largest groups of columns, best first, whose ends are not told apart."""
        order = sorted(range(len(self.means)), key=lambda column: self.means[column])
        groups: list[tuple[int, ...]] = []
        for start, first in enumerate(order):
            reach = self.means[first] + self.critical_difference
            group = tuple(column for column in order[start:] if self.means[column] <= reach)
            if not groups or not set(group) <= set(groups[-1]):
                groups.append(group)
        return tuple(groups)


def rank_blocks(values: Values, higher_is_better: bool) -> Ranks | None:
    """Rank the columns block by block and test whether they differ at all.

    Args:
        values: blocks x columns, without NaN.
        higher_is_better: which way the values go.

    Returns:
        None with fewer than three columns or two blocks, or where all values of every block are
        equal.
    """
    blocks, columns = values.shape
    if columns < FEWEST_RANKED or blocks < FEWEST_BLOCKS or (values == values[:, :1]).all():
        return None
    ranks = stats.rankdata(-values if higher_is_better else values, axis=1)
    statistic, p = stats.friedmanchisquare(*ranks.T)
    means = tuple(map(float, ranks.mean(axis=0)))
    return Ranks(means, blocks, float(statistic), float(p), critical_difference(columns, blocks))


def critical_difference(columns: int, blocks: int) -> float:
    """Nemenyi's: q / sqrt(2) * sqrt(k (k + 1) / (6 N)), q of the studentised range at 0.05."""
    q = float(stats.studentized_range.ppf(1 - ALPHA, columns, math.inf))
    return q / math.sqrt(2) * math.sqrt(columns * (columns + 1) / (6 * blocks))


@dataclass(frozen=True)
class RankTest:
    """Mean ranks of table rows over the patients of one population.

    Attributes:
        population: whose patients.
        metric: of which metric.
        n: patients with a value of every row.
        mean_ranks: row -> mean over patients of its rank, 1 being best; equal values share.
        statistic: Friedman's chi squared, corrected for ties.
        p: its p-value.
        critical_difference: mean ranks further apart than this differ (Nemenyi, 0.05).
    """

    population: Population
    metric: Metric
    n: int
    mean_ranks: dict[TableRow, float]
    statistic: float
    p: float
    critical_difference: float

    def with_the_best(self, row: TableRow) -> bool:
        """Whether a row cannot be told apart from the one with the best mean rank."""
        return self.mean_ranks[row] - min(self.mean_ranks.values()) <= self.critical_difference


def rank_test(
    patients: pd.DataFrame, population: Population, metric: Metric, ranked: Sequence[TableRow]
) -> RankTest | None:
    """Rank the rows patient by patient and test whether they differ at all.

    Args:
        patients: columns row, site, subject, metric, value.
        population: whose patients.
        metric: one with a known direction.
        ranked: the rows to rank; of rows with equal values in all patients give one.

    Returns:
        None with fewer than three rows or two patients, or where all values are equal.
    """
    table = values_per_row(population.values_in(patients[patients["metric"] == metric.name]))
    present = [row for row in ranked if row.name in table.columns]
    values = table[[row.name for row in present]].dropna().to_numpy(dtype=float)
    if metric.higher_is_better is None:
        return None
    found = rank_blocks(values, metric.higher_is_better)
    if found is None:
        return None
    means = dict(zip(present, found.means, strict=True))
    return RankTest(
        population,
        metric,
        len(values),
        means,
        found.statistic,
        found.p,
        found.critical_difference,
    )
