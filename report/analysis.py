"""All numbers of one run, computed once for the console and for the page."""

from __future__ import annotations

from dataclasses import dataclass

from report.actions import StrategyActions, strategy_actions
from report.highlights import Highlights, highlights, psnr_table
from report.methods import (
    Method,
    federated_methods,
    methods_of,
    patient_values,
    reference_method,
)
from report.metrics import LEADING, metrics_in
from report.populations import table_columns, tested_populations
from report.rank_tests import RankTest, distinct_methods, rank_test
from report.records import Run
from report.results_table import MetricTable, metric_tables
from report.statistics import PairedTests, compare

TESTED = ("psnr", "ssim", "mae", "nrmse")


@dataclass(frozen=True)
class Analysis:
    """What is computed from a run.

    Attributes:
        run: the files read.
        methods: the rows of every table.
        tables: one per metric.
        tests: per population and metric; empty without a federated arm.
        ranks: of the global strategies per metric and population; empty for fewer than three.
        like: every ranked strategy with those that came out equal to it.
        shown: the methods that figures and sentences single out.
        actions: whether the strategies acted.
    """

    run: Run
    methods: tuple[Method, ...]
    tables: tuple[MetricTable, ...]
    tests: tuple[PairedTests, ...]
    ranks: tuple[RankTest, ...]
    like: dict[Method, tuple[Method, ...]]
    shown: Highlights
    actions: StrategyActions


def analyse(run: Run) -> Analysis:
    """Compute tables and paired tests; the bootstrap uses the run's own seed."""
    methods = methods_of(run)
    patients = patient_values(run, methods)
    reference = reference_method(methods)
    tests: list[PairedTests] = []
    if reference is not None:
        others = [method for method in methods if method != reference]
        tests = [
            compare(patients, population, metric, reference, others, run.about.seed)
            for metric in metrics_in(patients["metric"])
            if metric.name in TESTED
            for population in tested_populations(run, patients)
        ]
    like = distinct_methods(patients, federated_methods(methods))
    ranks = [
        rank_test(patients, population, metric, tuple(like))
        for metric in metrics_in(patients["metric"])
        if metric.name in LEADING
        for population in tested_populations(run, patients)
    ]
    tables = metric_tables(patients, methods, table_columns(run, patients))
    return Analysis(
        run=run,
        methods=methods,
        tables=tables,
        tests=tuple(tests),
        ranks=tuple(found for found in ranks if found is not None),
        like=like,
        shown=highlights(psnr_table(tables)),
        actions=strategy_actions(run, methods, patients),
    )
