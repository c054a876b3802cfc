"""The key results: one table per metric, methods by populations, mean and spread over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from report.methods import Method, federated_methods, personal_methods
from report.metrics import Metric, metrics_in
from report.number_format import decimals_for, number
from report.populations import Population


@dataclass(frozen=True)
class Cell:
    """One method on one population.

    Attributes:
        n: number of patients.
        mean: arithmetic mean over patients; infinite when one value is.
        std: sample standard deviation (n - 1), NaN when n = 1 or a value is infinite.
        median: 50th percentile over patients.
        lower_quartile: 25th percentile, linear interpolation.
        upper_quartile: 75th percentile, linear interpolation.
        infinite: number of patients with infinite PSNR.
    """

    n: int
    mean: float
    std: float
    median: float
    lower_quartile: float
    upper_quartile: float
    infinite: int


@dataclass(frozen=True)
class MetricTable:
    """All cells of one metric.

    Attributes:
        metric: what is shown.
        columns: the populations.
        methods: the rows.
        cells: (method name, column number) to its cell; absent where there are no patients.
        counts: patients per column.
        best: (method name, column number) of the best method or methods per column, among the
            global strategies and, apart from them, among the personal ones.
        decimals: digits after the point.
    """

    metric: Metric
    columns: tuple[Population, ...]
    methods: tuple[Method, ...]
    cells: Mapping[tuple[str, int], Cell]
    counts: tuple[int, ...]
    best: frozenset[tuple[str, int]]
    decimals: int

    def mean_and_std(self, method: Method, column: int) -> str:
        """``27.31 ± 1.20``, with the number of patients where it is not that of the column."""
        cell = self.cells.get((method.name, column))
        if cell is None:
            return number(None, 0)
        text = f"{number(cell.mean, self.decimals)} ± {number(cell.std, self.decimals)}"
        return text + self._odd_count(cell, column)

    def median_and_quartiles(self, method: Method, column: int) -> str:
        """``27.40 [26.10, 28.02]``."""
        cell = self.cells.get((method.name, column))
        if cell is None:
            return number(None, 0)
        low, high = (number(q, self.decimals) for q in (cell.lower_quartile, cell.upper_quartile))
        return f"{number(cell.median, self.decimals)} [{low}, {high}]" + self._odd_count(
            cell, column
        )

    def _odd_count(self, cell: Cell, column: int) -> str:
        return "" if cell.n == self.counts[column] else f" (n = {cell.n})"


def cell_of(values: pd.Series) -> Cell:
    """Summarise one or more per-patient values."""
    data = values.to_numpy(dtype=float)
    finite = bool(np.isfinite(data).all())
    low, median, high = (_quantile(data, fraction) for fraction in (0.25, 0.5, 0.75))
    return Cell(
        n=len(data),
        mean=float(data.mean()),
        std=float(data.std(ddof=1)) if finite and len(data) > 1 else float("nan"),
        median=median,
        lower_quartile=low,
        upper_quartile=high,
        infinite=int(np.isinf(data).sum()),
    )


def metric_tables(
    patients: pd.DataFrame, methods: tuple[Method, ...], columns: tuple[Population, ...]
) -> tuple[MetricTable, ...]:
    """One table per metric present, in the fixed order of :mod:`report.metrics`.

    Args:
        patients: columns method, site, subject, metric, value.
        methods: the rows.
        columns: the populations.
    """
    return tuple(
        _metric_table(patients[patients["metric"] == metric.name], metric, methods, columns)
        for metric in metrics_in(patients["metric"])
    )


def _metric_table(
    values: pd.DataFrame,
    metric: Metric,
    methods: tuple[Method, ...],
    columns: tuple[Population, ...],
) -> MetricTable:
    cells = {}
    for index, column in enumerate(columns):
        of_column = column.rows(values)
        for method in methods:
            of_method = of_column[of_column["method"] == method.name]["value"]
            if len(of_method):
                cells[method.name, index] = cell_of(of_method)
    decimals = metric.decimals
    if decimals is None:
        # one outlier, such as the source, must not take a digit from all others
        decimals = decimals_for(float(np.median([abs(cell.mean) for cell in cells.values()])))
    counts = tuple(column.count(values) for column in columns)
    return MetricTable(
        metric=metric,
        columns=columns,
        methods=methods,
        cells=cells,
        counts=counts,
        best=frozenset(
            key
            for ranked in (federated_methods(methods), personal_methods(methods))
            for key in _best(cells, metric, ranked, counts, decimals)
        ),
        decimals=decimals,
    )


def _best(
    cells: Mapping[tuple[str, int], Cell],
    metric: Metric,
    ranked: Sequence[Method],
    counts: Sequence[int],
    decimals: int,
) -> set[tuple[str, int]]:
    """The best mean among two or more methods; equal printed numbers are all best.

    Cells with fewer patients than their column (a site without a personal model) are not ranked.
    """
    best: set[tuple[str, int]] = set()
    for column, count in enumerate(counts):
        keys = [(method.name, column) for method in ranked]
        complete = [key for key in keys if key in cells and cells[key].n == count]
        means = {key: round(cells[key].mean, decimals) for key in complete}
        if len(means) < 2 or metric.higher_is_better is None:
            continue
        top = max(means.values()) if metric.higher_is_better else min(means.values())
        best |= {key for key, mean in means.items() if mean == top}
    return best


def _quantile(data: np.ndarray, fraction: float) -> float:
    """Linear interpolation between order statistics that stays defined with infinite values."""
    ordered = np.sort(data)
    position = fraction * (len(ordered) - 1)
    below = int(np.floor(position))
    weight = position - below
    if weight == 0:
        return float(ordered[below])
    return float(ordered[below] * (1 - weight) + ordered[below + 1] * weight)
