"""All numbers of one run, computed once for the console and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from report.numbers.featured import FeaturedRows, featured_rows, psnr_table
from report.numbers.learnt import Learnt, learnt_rows
from report.numbers.metrics import LEADING, metrics_in
from report.numbers.ranks import RankTest, rank_test
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
from report.numbers.statistics import PairedTests, compare, distinct_rows
from report.numbers.strategy_effects import StrategyEffects, strategy_effects
from report.run.records import Run

TISSUES = ("mae_air_hu", "mae_soft_hu", "mae_bone_hu")
TESTED = ("psnr", "ssim", "ms_ssim", "mae", "mae_hu", "rmse_hu", "nrmse", "lesion_mae", *TISSUES)
"""The metrics that are tested whatever the primary outcome; its own metric always is."""


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
        learnt: which arms are above what needs no network.
    """

    run: Run
    rows: tuple[TableRow, ...]
    tables: tuple[MetricTable, ...]
    tests: tuple[PairedTests, ...]
    ranks: tuple[RankTest, ...]
    like: dict[TableRow, tuple[TableRow, ...]]
    featured: FeaturedRows
    effects: StrategyEffects
    learnt: tuple[Learnt, ...]

    def is_primary(self, tests: PairedTests) -> bool:
        """Whether these tests are those of the run's primary outcome."""
        primary = self.run.about.primary
        return (tests.metric.name, tests.population.unseen) == (primary.metric, primary.unseen)


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
        learnt=learnt_rows(psnr_table(tables)),
    )


def _paired_tests(
    run: Run, rows: Sequence[TableRow], patients: pd.DataFrame
) -> Iterator[PairedTests]:
    """The reference against every other trained row, for each metric and population.

    What needs no network is no method: to be above it is asked of every model and is no finding,
    so that it does not count among the hypotheses that Holm corrects for.
    """
    reference = reference_row(rows)
    if reference is None:
        return
    others = [row for row in converged_rows(rows) if row != reference and row.is_trained]
    for metric in metrics_in(run.about.metrics, patients["metric"]):
        if metric.name in (*TESTED, run.about.primary.metric):
            for population in tested_populations(run, patients):
                yield compare(patients, population, metric, reference, others, run.about.seed)


def _rank_tests(run: Run, ranked: Sequence[TableRow], patients: pd.DataFrame) -> Iterator[RankTest]:
    for metric in metrics_in(run.about.metrics, patients["metric"]):
        if metric.name in LEADING:
            for population in tested_populations(run, patients):
                found = rank_test(patients, population, metric, ranked)
                if found is not None:
                    yield found
