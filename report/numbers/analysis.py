"""All numbers of one run, computed once for the console and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from report.numbers.featured import FeaturedRows, featured_rows
from report.numbers.metrics import LEADING, metrics_in
from report.numbers.results_table import MetricTable, metric_tables
from report.numbers.rows import (
    TableRow,
    converged_rows,
    global_rows,
    patient_values,
    reference_row,
    table_columns,
    table_rows,
    tested_populations,
)
from report.numbers.statistics import PairedTests, RankTest, compare, distinct_rows, rank_test
from report.numbers.strategy_effects import StrategyEffects, strategy_effects
from report.run.records import Run

TESTED = ("psnr", "ssim", "mae", "nrmse")


@dataclass(frozen=True)
class Analysis:
    """What is computed from a run.

    Attributes:
        run: the files read.
        rows: the rows of every table.
        tables: one per metric.
        tests: per population and metric; empty without a federated arm.
        ranks: of the global strategies per metric and population; empty for fewer than three.
        like: every ranked strategy with those that came out equal to it.
        featured: the rows that figures and sentences single out.
        effects: whether the strategies acted.
    """

    run: Run
    rows: tuple[TableRow, ...]
    tables: tuple[MetricTable, ...]
    tests: tuple[PairedTests, ...]
    ranks: tuple[RankTest, ...]
    like: dict[TableRow, tuple[TableRow, ...]]
    featured: FeaturedRows
    effects: StrategyEffects


def analyse(run: Run) -> Analysis:
    """Compute tables and tests; the bootstrap uses the run's own seed.

    Diverged rows are in the tables; they are neither ranked nor tested.
    """
    rows = table_rows(run)
    patients = patient_values(run, rows)
    like = distinct_rows(patients, converged_rows(global_rows(rows)))
    tables = metric_tables(run.about.metrics, patients, rows, table_columns(run, patients))
    return Analysis(
        run=run,
        rows=rows,
        tables=tables,
        tests=tuple(_paired_tests(run, rows, patients)),
        ranks=tuple(_rank_tests(run, tuple(like), patients)),
        like=like,
        featured=featured_rows(tables),
        effects=strategy_effects(run, rows, patients),
    )


def _paired_tests(
    run: Run, rows: Sequence[TableRow], patients: pd.DataFrame
) -> Iterator[PairedTests]:
    """The reference against every other row, for each metric and population."""
    reference = reference_row(rows)
    if reference is None:
        return
    others = [row for row in converged_rows(rows) if row != reference]
    for metric in metrics_in(run.about.metrics, patients["metric"]):
        if metric.name in TESTED:
            for population in tested_populations(run, patients):
                yield compare(patients, population, metric, reference, others, run.about.seed)


def _rank_tests(run: Run, ranked: Sequence[TableRow], patients: pd.DataFrame) -> Iterator[RankTest]:
    for metric in metrics_in(run.about.metrics, patients["metric"]):
        if metric.name in LEADING:
            for population in tested_populations(run, patients):
                found = rank_test(patients, population, metric, ranked)
                if found is not None:
                    yield found
