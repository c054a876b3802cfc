"""The key results: a table per metric, models by patients, with mean and spread over patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from report.number_format import decimals_for, number
from report.numbers.metrics import metrics_in
from report.numbers.rows import Population, TableRow, converged_rows, global_rows, personal_rows
from report.numbers.statistics import quantile
from report.run.metrics import Metric

DIVERGED = "diverged"
"""What stands in place of a mean over values of which one is no number."""


@dataclass(frozen=True)
class Cell:
    """One table row on one population.

    Attributes:
        n: number of patients.
        mean: arithmetic mean over patients; infinite when one value is.
        std: sample standard deviation (n - 1), NaN when n = 1 or a value is infinite.
        median: 50th percentile over patients.
        lower_quartile: 25th percentile, linear interpolation.
        upper_quartile: 75th percentile, linear interpolation.
        infinite: number of patients with infinite PSNR.
        diverged: number of patients without a number; all the others are NaN where it is not 0.
    """

    n: int
    mean: float
    std: float
    median: float
    lower_quartile: float
    upper_quartile: float
    infinite: int
    diverged: int


@dataclass(frozen=True)
class MetricTable:
    """All cells of one metric.

    Attributes:
        metric: what is shown.
        columns: the populations.
        rows: the table rows.
        cells: (row name, column number) to its cell; absent where there are no patients.
        counts: patients per column.
        best: (row name, column number) of the best row or rows per column, among the
            global strategies and, apart from them, among the personal ones.
        decimals: digits after the point.
    """

    metric: Metric
    columns: tuple[Population, ...]
    rows: tuple[TableRow, ...]
    cells: Mapping[tuple[str, int], Cell]
    counts: tuple[int, ...]
    best: frozenset[tuple[str, int]]
    decimals: int

    def mean_and_std(self, row: TableRow, column: int) -> str:
        """``27.31 ± 1.20``, with the number of patients where it is not that of the column."""
        return self._written(
            row,
            column,
            lambda cell: f"{number(cell.mean, self.decimals)} ± {number(cell.std, self.decimals)}",
        )

    def median_and_quartiles(self, row: TableRow, column: int) -> str:
        """``27.40 [26.10, 28.02]``, likewise."""

        def write(cell: Cell) -> str:
            values = (cell.median, cell.lower_quartile, cell.upper_quartile)
            median, low, high = (number(value, self.decimals) for value in values)
            return f"{median} [{low}, {high}]"

        return self._written(row, column, write)

    def _written(self, row: TableRow, column: int, write: Callable[[Cell], str]) -> str:
        cell = self.cells.get((row.name, column))
        if cell is None:
            return number(None, 0)
        if cell.diverged:
            return DIVERGED
        return write(cell) + ("" if cell.n == self.counts[column] else f" (n = {cell.n})")


def cell_of(values: pd.Series) -> Cell:
    """Summarise one or more per-patient values."""
    data = values.to_numpy(dtype=float)
    diverged = int(np.isnan(data).sum())
    if diverged:
        data = np.full_like(data, np.nan)
    finite = bool(np.isfinite(data).all())
    low, median, high = (quantile(data, fraction) for fraction in (0.25, 0.5, 0.75))
    return Cell(
        n=len(data),
        mean=float(data.mean()),
        std=float(data.std(ddof=1)) if finite and len(data) > 1 else float("nan"),
        median=median,
        lower_quartile=low,
        upper_quartile=high,
        infinite=int(np.isinf(data).sum()),
        diverged=diverged,
    )


def metric_tables(
    metrics: Sequence[Metric],
    patients: pd.DataFrame,
    rows: tuple[TableRow, ...],
    columns: tuple[Population, ...],
) -> tuple[MetricTable, ...]:
    """One table per metric present, the main metrics first.

    Args:
        metrics: those that the run describes.
        patients: columns row, site, subject, metric, value.
        rows: the table rows.
        columns: the populations.
    """
    return tuple(
        _metric_table(patients[patients["metric"] == metric.name], metric, rows, columns)
        for metric in metrics_in(metrics, patients["metric"])
    )


def _metric_table(
    values: pd.DataFrame,
    metric: Metric,
    rows: tuple[TableRow, ...],
    columns: tuple[Population, ...],
) -> MetricTable:
    cells = {}
    for index, column in enumerate(columns):
        of_column = column.values_in(values)
        for row in rows:
            of_row = of_column[of_column["row"] == row.name]["value"]
            if len(of_row):
                cells[row.name, index] = cell_of(of_row)
    decimals = metric.decimals
    if decimals is None:
        # the median: one outlier, such as the source, must not take a digit from all others
        means = [abs(cell.mean) for cell in cells.values() if not cell.diverged]
        decimals = decimals_for(float(np.median(means)) if means else math.nan)
    counts = tuple(column.count(values) for column in columns)
    return MetricTable(
        metric=metric,
        columns=columns,
        rows=rows,
        cells=cells,
        counts=counts,
        best=frozenset(
            key
            for ranked in (global_rows(rows), personal_rows(rows))
            for key in _best(cells, metric, converged_rows(ranked), counts, decimals)
        ),
        decimals=decimals,
    )


def _best(
    cells: Mapping[tuple[str, int], Cell],
    metric: Metric,
    ranked: Sequence[TableRow],
    counts: Sequence[int],
    decimals: int,
) -> set[tuple[str, int]]:
    """The best mean among two or more rows; equal printed numbers are all best.

    Cells with fewer patients than their column (a site without a personal model) are not ranked.
    """
    best: set[tuple[str, int]] = set()
    for column, count in enumerate(counts):
        keys = [(row.name, column) for row in ranked]
        complete = [key for key in keys if key in cells and cells[key].n == count]
        means = {key: round(cells[key].mean, decimals) for key in complete}
        if len(means) < 2 or metric.higher_is_better is None:
            continue
        top = max(means.values()) if metric.higher_is_better else min(means.values())
        best |= {key for key, mean in means.items() if mean == top}
    return best
