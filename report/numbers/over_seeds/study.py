"""All numbers of a study: means and spreads over training runs, tests over runs and patients.

The unit of replication is the training run. Means are over patients first and over runs then; what
stands behind "±" is the standard deviation between runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from report.number_format import decimals_for
from report.numbers.analysis import TESTED
from report.numbers.metrics import metrics_in
from report.numbers.over_seeds.crossed_t import CrossedT, NotTestableError, Table, crossed_t
from report.numbers.rows import (
    Population,
    TableRow,
    patient_values,
    table_columns,
    table_rows,
    tested_populations,
)
from report.numbers.statistics import ALPHA, holm
from report.run.metrics import Metric
from report.run.study import Study

ALSO_TESTED = ("ms_ssim_3_scales", "vif", "gmsd", "haarpsi", "ssim_inner")
"""Secondary outcomes of a study beside those of a single run, declared for every study alike."""
_ROUNDING = 1e-6
"""Relative to the mean: what is computed in single precision differs by this between two runs."""


@dataclass(frozen=True)
class RunMeans:
    """The mean over patients of one arm in every run.

    Attributes:
        of_seed: seed to mean; NaN where the run diverged.
    """

    of_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over runs."""
        return float(np.mean(list(self.of_seed.values())))

    @property
    def spread(self) -> float | None:
        """Standard deviation between runs; None of one run, 0 where rounding alone differs."""
        values = list(self.of_seed.values())
        if len(values) < 2:
            return None
        spread = float(np.std(values, ddof=1))
        return 0.0 if spread <= _ROUNDING * abs(self.mean) else spread


@dataclass(frozen=True)
class StudyTable:
    """All means of one metric.

    Attributes:
        metric: what is shown.
        columns: groups of patients.
        counts: patients of each.
        rows: arms.
        cells: (row name, column number) to its means; absent where the row has no values.
        decimals: digits after the point.
    """

    metric: Metric
    columns: tuple[Population, ...]
    counts: tuple[int, ...]
    rows: tuple[TableRow, ...]
    cells: Mapping[tuple[str, int], RunMeans]
    decimals: int


@dataclass(frozen=True)
class StudyComparison:
    """The reference against one other arm.

    Attributes:
        other: the arm.
        per_seed: seed to the mean difference over patients, reference minus other.
        test: the crossed t, or None.
        why_not: why there is no test; empty where there is one.
        p_holm: the test's p, corrected for the comparisons of the primary outcome; None for
            secondary outcomes.
    """

    other: TableRow
    per_seed: Mapping[int, float]
    test: CrossedT | None
    why_not: str = ""
    p_holm: float | None = None

    @property
    def differs(self) -> bool:
        """Whether the corrected p-value of a primary comparison is below 0.05."""
        return self.p_holm is not None and self.p_holm < ALPHA

    @property
    def equivalent(self) -> bool:
        """Whether a difference of the margin or more is ruled out in both directions."""
        return self.test is not None and self.test.p_equivalent < ALPHA


@dataclass(frozen=True)
class StudyTests:
    """All comparisons of one metric on one group of patients."""

    population: Population
    metric: Metric
    reference: TableRow
    comparisons: tuple[StudyComparison, ...]
    primary: bool


@dataclass(frozen=True)
class StudyAnalysis:
    """What is computed from a study.

    Attributes:
        study: the files read.
        rows: the arms, of the first run.
        tables: one per metric.
        tests: per metric and group of patients, the primary outcome first; empty without a
            federated arm.
        patients: columns seed, row, site, subject, metric, value; NaN of a diverged run.
    """

    study: Study
    rows: tuple[TableRow, ...]
    tables: tuple[StudyTable, ...]
    tests: tuple[StudyTests, ...]
    patients: pd.DataFrame

    @property
    def primary(self) -> StudyTests | None:
        """The tests that the study was made for."""
        return next((tests for tests in self.tests if tests.primary), None)


def analyse_study(study: Study) -> StudyAnalysis:
    """Compute tables and tests."""
    rows = table_rows(study.first)
    patients = _all_values(study, rows)
    tests = list(_tests(study, rows, patients))
    return StudyAnalysis(
        study=study,
        rows=rows,
        tables=tuple(_tables(study, rows, patients)),
        tests=tuple(sorted(tests, key=lambda found: not found.primary)),
        patients=patients,
    )


def _all_values(study: Study, rows: Sequence[TableRow]) -> pd.DataFrame:
    """One value per seed, row, site, patient and metric of the test split."""
    parts = [patient_values(run, rows).assign(seed=seed) for seed, run in study.runs.items()]
    return pd.concat(parts, ignore_index=True)


def _tables(
    study: Study, rows: tuple[TableRow, ...], patients: pd.DataFrame
) -> Iterator[StudyTable]:
    columns = table_columns(study.first, patients)
    for metric in metrics_in(study.first.about.metrics, patients["metric"]):
        of_metric = patients[patients["metric"] == metric.name]
        cells = {}
        for number, column in enumerate(columns):
            inside = column.values_in(of_metric)
            for row in rows:
                means = _run_means(inside[inside["row"] == row.name])
                if means is not None:
                    cells[row.name, number] = means
        largest = max((abs(means.mean) for means in cells.values()), default=0.0)
        decimals = decimals_for(largest) if metric.decimals is None else metric.decimals
        counts = tuple(column.count(of_metric) for column in columns)
        yield StudyTable(metric, columns, counts, rows, cells, decimals)


def _run_means(values: pd.DataFrame) -> RunMeans | None:
    if values.empty:
        return None
    found = values.groupby("seed", sort=False)["value"].agg(lambda run: run.mean(skipna=False))
    return RunMeans({int(seed): float(mean) for seed, mean in found.items()})


def _tests(
    study: Study, rows: tuple[TableRow, ...], patients: pd.DataFrame
) -> Iterator[StudyTests]:
    """The reference against every other trained row, for each metric and group of patients.

    The reference is the design's, also where it diverged: which arm is tested must not depend on
    what came out.
    """
    reference = next((row for row in rows if row.name == study.about.reference), None)
    if reference is None:
        return
    others = [row for row in rows if row != reference and row.is_trained]
    primary = study.about.primary
    for metric in metrics_in(study.first.about.metrics, patients["metric"]):
        if metric.name not in (*TESTED, *ALSO_TESTED, primary.metric):
            continue
        for population in tested_populations(study.first, patients):
            values = population.values_in(patients[patients["metric"] == metric.name])
            is_primary = (metric.name, population.unseen) == (primary.metric, primary.unseen)
            found = [compared(values, reference, row, study.about.margin) for row in others]
            known = tuple(comparison for comparison in found if comparison is not None)
            if known:
                corrected = _corrected(known) if is_primary else known
                yield StudyTests(population, metric, reference, corrected, is_primary)


def compared(
    values: pd.DataFrame, reference: TableRow, other: TableRow, margin: float
) -> StudyComparison | None:
    """The crossed t of two arms; None where they share no patients.

    Args:
        values: of one metric and group of patients; columns seed, row, site, subject, value.
        reference: the arm from which the other is subtracted.
        other: that one.
        margin: of equivalence, in the metric's unit.
    """
    differences = _differences(values, reference, other)
    if differences is None:
        return None
    per_seed = {int(seed): float(mean) for seed, mean in differences.mean(axis=1).items()}
    table: Table = differences.to_numpy(dtype=float)
    try:
        return StudyComparison(other, per_seed, crossed_t(table, margin))
    except NotTestableError as error:
        return StudyComparison(other, per_seed, None, str(error))


def _differences(values: pd.DataFrame, reference: TableRow, other: TableRow) -> pd.DataFrame | None:
    """Reference minus other, a line per seed and a column per patient; None without patients."""
    tables = [
        values[values["row"] == row.name].pivot(
            index="seed", columns=["site", "subject"], values="value"
        )
        for row in (reference, other)
    ]
    if any(table.empty for table in tables):
        return None
    return tables[0] - tables[1]


def _corrected(comparisons: Sequence[StudyComparison]) -> tuple[StudyComparison, ...]:
    """Holm over all comparisons of the family; one that could not be tested counts as p = 1."""
    corrected = holm([found.test.p if found.test else 1.0 for found in comparisons])
    return tuple(
        replace(found, p_holm=p if found.test else None)
        for found, p in zip(comparisons, corrected, strict=True)
    )
