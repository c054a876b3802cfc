"""Which models are better than what needs no network, and so may be said to have learnt.

The source taken as prediction is no measure of that: where contrasts are inverted it is far worse
than a grey constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from report.numbers.results_table import MetricTable
from report.numbers.rows import Population, TableRow, converged_rows
from report.run.metrics import Metric
from report.run.records import CONSTANT, MEAN_TARGET


@dataclass(frozen=True)
class Learnt:
    """The trained rows beside the better of constant and mean target, by the mean of a metric.

    Attributes:
        population: whose patients.
        floor: the better of the two.
        level: its mean.
        above: rows with a better mean, in the order of the tables.
        not_above: the other trained rows.
    """

    population: Population
    floor: TableRow
    level: float
    above: tuple[TableRow, ...]
    not_above: tuple[TableRow, ...]


def learnt_rows(table: MetricTable) -> tuple[Learnt, ...]:
    """Compare for every headline population that has a constant or a mean target.

    Rows and floors without a value for every patient of a population are left out there, and so are
    diverged rows.

    Args:
        table: of a metric with a better way.
    """
    found = [
        learnt_among(population, _complete_means(table, column), table.metric)
        for column, population in enumerate(table.columns)
        if population.headline
    ]
    return tuple(item for item in found if item is not None)


def learnt_among(
    population: Population, means: Mapping[TableRow, float], metric: Metric
) -> Learnt | None:
    """Compare means of one population; None where there is neither a constant nor a mean target.

    Args:
        population: whose patients.
        means: by row, none of them NaN.
        metric: with a better way.
    """
    sign = -1.0 if metric.higher_is_better is False else 1.0
    floors = [row for row in means if row.kind in (CONSTANT, MEAN_TARGET)]
    if not floors:
        return None
    floor = max(floors, key=lambda row: sign * means[row])
    trained = [row for row in means if row.is_trained]
    above = tuple(row for row in trained if sign * means[row] > sign * means[floor])
    rest = tuple(row for row in trained if row not in above)
    return Learnt(population, floor, means[floor], above, rest)


def unlearnt_metrics(tables: Iterable[MetricTable]) -> tuple[tuple[MetricTable, Learnt], ...]:
    """Where no trained row at all is above the floor: a metric and a headline population each."""
    directed = [table for table in tables if table.metric.higher_is_better is not None]
    return tuple(
        (table, item)
        for table in directed
        for item in learnt_rows(table)
        if item.not_above and not item.above
    )


def _complete_means(table: MetricTable, column: int) -> dict[TableRow, float]:
    cells = {row: table.cells.get((row.name, column)) for row in converged_rows(table.rows)}
    return {
        row: cell.mean
        for row, cell in cells.items()
        if cell is not None and cell.n == table.counts[column]
    }
