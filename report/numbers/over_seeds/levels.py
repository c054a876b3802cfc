"""The primary outcome of every arm at every level, with its spread over training runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from report.numbers.metrics import metrics_in
from report.numbers.over_seeds.study import RunMeans
from report.numbers.rows import (
    Population,
    TableRow,
    patient_values,
    table_rows,
    tested_populations,
)
from report.run.levels import LevelledStudy
from report.run.metrics import Metric
from report.run.study import Study


@dataclass(frozen=True)
class LevelsAnalysis:
    """What is computed from a study at several levels.

    Attributes:
        study: the files read.
        metric: of the primary outcome.
        population: the patients that it is about, at the first level.
        rows: the trained arms of all levels, in the order in which levels name them.
        cells: (level, row name) to the means of its runs; absent where a level lacks the arm.
    """

    study: LevelledStudy
    metric: Metric
    population: Population
    rows: tuple[TableRow, ...]
    cells: Mapping[tuple[str, str], RunMeans]

    def levels_on(self, axis: str) -> list[tuple[float, str]]:
        """Place and name of the levels on an axis that have been run, from the lowest place."""
        levels = self.study.levels
        return sorted(
            (levels[name].at[axis], name) for name in self.study.studies if axis in levels[name].at
        )


def analyse_levels(study: LevelledStudy) -> LevelsAnalysis:
    """Compute the means; levels are not tested against each other, each has tests of its own."""
    cells: dict[tuple[str, str], RunMeans] = {}
    rows: dict[str, TableRow] = {}
    for name, one in study.studies.items():
        for row in table_rows(one.first):
            if row.is_trained:
                rows.setdefault(row.name, row)
        for row_name, means in _means(one).items():
            cells[name, row_name] = means
    return LevelsAnalysis(study, *_outcome(study.first), tuple(rows.values()), cells)


def _means(study: Study) -> dict[str, RunMeans]:
    """The primary outcome's mean over patients of every trained arm in every run."""
    metric, population = _outcome(study)
    rows = [row for row in table_rows(study.first) if row.is_trained]
    found: dict[str, dict[int, float]] = {row.name: {} for row in rows}
    for seed, run in study.runs.items():
        values = population.values_in(patient_values(run, rows))
        values = values[values["metric"] == metric.name]
        for name, group in values.groupby("row", sort=False):
            found[str(name)][seed] = float(group["value"].mean(skipna=False))
    return {name: RunMeans(of_seed) for name, of_seed in found.items() if of_seed}


def _outcome(study: Study) -> tuple[Metric, Population]:
    """The metric and the patients of the primary outcome."""
    run, primary = study.first, study.about.primary
    values = patient_values(run, table_rows(run))
    metric = next(
        found
        for found in metrics_in(run.about.metrics, values["metric"])
        if found.name == primary.metric
    )
    populations = tested_populations(run, values)
    return metric, next(group for group in populations if group.unseen == primary.unseen)
