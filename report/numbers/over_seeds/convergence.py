"""How many rounds, bytes and seconds every arm needs to come close to the centralised one.

The goal is 95 % of the way from the constant baseline to the centralised arm: decibels have no
zero, so that 95 % of a value would mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fedi2i.metric_files import RECEIVED, SENT
from fedi2i.site_names import ALL_SITES, RESERVED
from report.numbers.curves import VALIDATION, CurveBook, curve_book, mean_curve
from report.numbers.metrics import PSNR
from report.numbers.over_seeds.reaching import (
    MedianOverRuns,
    Race,
    Reached,
    first_reached,
    median_over_runs,
    race,
)
from report.numbers.over_seeds.study import RunMeans, StudyAnalysis
from report.numbers.rows import TableRow
from report.numbers.statistics import ALPHA, holm
from report.run.metrics import Metric
from report.run.records import CENTRALISED, CONSTANT, MEAN_TARGET, Run

WAY = 0.95
"""The part of the way that counts as arrived."""
AXES = ROUNDS, BYTES, SECONDS = ("rounds", "bytes", "seconds")
VALUE = "value"
TRAINING_SECONDS = "time/train_seconds"
RELAY = "relay/"
"""Metrics of a model that goes from site to site: its sites train one after another."""


@dataclass(frozen=True)
class Goal:
    """What is to be reached.

    Attributes:
        value: in the metric's unit.
        constant: of the baseline, mean over federated sites.
        on_test: whether ``constant`` is of test patients, because no curve recorded it.
        centralised: at the end of the centralised arm, mean over federated sites and runs.
    """

    value: float
    constant: float
    on_test: bool
    centralised: float


@dataclass(frozen=True)
class ArmConvergence:
    """The lines of one arm.

    Attributes:
        row: the arm.
        lines: seed to a table indexed by round, with the columns ``value``, ``rounds``, ``bytes``
            and ``seconds``: what was spent before the model of that round was measured; NaN where
            it was not recorded. Bytes go both ways, over all sites; seconds are those of training
            at the slowest site.
        reached: axis to what every seed with such a line needed; empty without a goal.
        medians: axis to the median over seeds; only axes that every line has.
        race: rounds against those of the reference; None for the reference, for an arm that is not
            federated, and where a seed has no line.
        p_holm: the sign test's p, corrected for all arms raced.
    """

    row: TableRow
    lines: Mapping[int, pd.DataFrame]
    reached: Mapping[str, Mapping[int, Reached]]
    medians: Mapping[str, MedianOverRuns]
    race: Race | None = None
    p_holm: float | None = None

    @property
    def shown_faster(self) -> bool:
        """Whether the arm needs fewer rounds than the reference."""
        return self._differs and self.race is not None and self.race.earlier > self.race.later

    @property
    def shown_slower(self) -> bool:
        """Whether it needs more."""
        return self._differs and not self.shown_faster

    @property
    def _differs(self) -> bool:
        return self.p_holm is not None and self.p_holm < ALPHA


@dataclass(frozen=True)
class StudyConvergence:
    """All lines of a study.

    Attributes:
        metric: what they show: the primary outcome's metric where runs recorded it, else PSNR.
        goal: what is to be reached, or None.
        why_not: why there is no goal; empty where there is one.
        reference: label of the arm raced against, or "".
        arms: those with a line, in the order of the tables.
        floors: label to value of what needs no network, on the same patients as the lines; empty
            where the runs did not record it.
    """

    metric: Metric
    goal: Goal | None
    why_not: str
    reference: str
    arms: tuple[ArmConvergence, ...]
    floors: Mapping[str, float]


def study_convergence(analysis: StudyAnalysis) -> StudyConvergence | None:
    """Collect all lines and what they reach; None where no run recorded the metric."""
    books = {seed: curve_book(run) for seed, run in analysis.study.runs.items()}
    recorded = {name for book in books.values() for name in book.metrics}
    metric = next((m for m in _candidates(analysis) if VALIDATION + m.name in recorded), None)
    lines = {} if metric is None else _lines(analysis, books, metric)
    if metric is None or not lines:
        return None
    goal, why_not = _goal(analysis, books, lines, metric)
    arms = [_arm(row, found, goal, metric) for row, found in lines.items()]
    reference = next((arm for arm in arms if arm.row.name == analysis.study.about.reference), None)
    label = reference.row.label if reference else ""
    raced = _raced(arms, reference, len(books))
    return StudyConvergence(metric, goal, why_not, label, raced, _floors(analysis, books, metric))


def _candidates(analysis: StudyAnalysis) -> list[Metric]:
    described = {metric.name: metric for metric in analysis.study.first.about.metrics}
    wanted = [described.get(name) for name in (analysis.study.about.primary.metric, PSNR)]
    return [metric for metric in wanted if metric and metric.higher_is_better is not None]


def _floors(
    analysis: StudyAnalysis, books: Mapping[int, CurveBook], metric: Metric
) -> dict[str, float]:
    """The constant and the mean target on validation patients; no seed changes them."""
    first = next(iter(books.values()))
    curves = {
        row.label: mean_curve(first, row, VALIDATION + metric.name)
        for row in analysis.rows
        if row.name in (CONSTANT, MEAN_TARGET)
    }
    return {label: float(curve.iloc[-1]) for label, curve in curves.items() if len(curve)}


def _lines(
    analysis: StudyAnalysis, books: Mapping[int, CurveBook], metric: Metric
) -> dict[TableRow, dict[int, pd.DataFrame]]:
    """Arm and seed to the line; no arm without any."""
    found: dict[TableRow, dict[int, pd.DataFrame]] = {}
    for row in analysis.rows:
        for seed, run in analysis.study.runs.items():
            line = _line(run, books[seed], row, metric) if row.is_trained else pd.DataFrame()
            if len(line):
                found.setdefault(row, {})[seed] = line
    return found


def _line(run: Run, book: CurveBook, row: TableRow, metric: Metric) -> pd.DataFrame:
    """The value after every round with what had been spent; empty where nothing was recorded."""
    values = mean_curve(book, row, VALIDATION + metric.name)
    values = values[np.isfinite(values)]
    if values.empty:
        return pd.DataFrame()
    own = _recorded(run, row)
    relayed = own["metric"].str.startswith(RELAY).any()
    together = "sum" if relayed else "max"
    columns = {
        VALUE: values,
        ROUNDS: pd.Series(values.index.astype(float), values.index),
        BYTES: _spent_before(own, (SENT, RECEIVED), "sum", values.index),
        SECONDS: _spent_before(own, (TRAINING_SECONDS,), together, values.index),
    }
    return pd.DataFrame(columns)


def _recorded(run: Run, row: TableRow) -> pd.DataFrame:
    """All that the row's jobs recorded: a value per site, or of all sites where there are none."""
    if run.curves is None:
        raise ValueError("a run without curves has no line")
    own = run.curves[run.curves["arm"].isin({arm.job for arm in row.arms})]
    per_site = own[~own["site"].isin(RESERVED)]
    whole = own[(own["site"] == ALL_SITES) & ~own["metric"].isin(per_site["metric"])]
    return pd.concat([per_site, whole])


def _spent_before(
    own: pd.DataFrame, metrics: Sequence[str], together: str, rounds: pd.Index
) -> pd.Series:
    """The sum of every earlier round's cost; NaN where an earlier round has none.

    The model measured in round r is the one that rounds 0 to r - 1 have trained.
    """
    chosen = own[own["metric"].isin(metrics)]
    cost = chosen.groupby("round")["value"].agg(together)
    if cost.empty:
        return pd.Series(math.nan, rounds)
    first = int(cost.index.min())
    earlier = [cost.reindex(range(first, int(number))) for number in rounds]
    return pd.Series([float(part.sum(skipna=False)) for part in earlier], rounds)


def _goal(
    analysis: StudyAnalysis,
    books: Mapping[int, CurveBook],
    lines: Mapping[TableRow, Mapping[int, pd.DataFrame]],
    metric: Metric,
) -> tuple[Goal | None, str]:
    """The goal and "", or None and why."""
    rows = {row.name: row for row in analysis.rows}
    central = lines.get(rows[CENTRALISED]) if CENTRALISED in rows else None
    if central is None:
        return None, "no centralised arm recorded its way"
    if CONSTANT not in rows:
        return None, "the runs hold no constant baseline"
    row = rows[CONSTANT]
    first = next(iter(books.values()))
    curve = mean_curve(first, row, VALIDATION + metric.name)
    constant = float(curve.iloc[-1]) if len(curve) else _on_test(analysis, row, metric)
    end = float(np.mean([line[VALUE].iloc[-1] for line in central.values()]))
    sign = 1 if metric.higher_is_better else -1
    if not sign * (end - constant) > 0:
        return None, "the centralised arm ends no better than the constant baseline"
    value = constant + WAY * (end - constant)
    return Goal(value, constant, len(curve) == 0, end), ""


def _on_test(analysis: StudyAnalysis, row: TableRow, metric: Metric) -> float:
    """The mean over federated sites of the row's test values, every site with equal weight."""
    table = next(table for table in analysis.tables if table.metric.name == metric.name)
    means: list[RunMeans] = [
        table.cells[row.name, number]
        for number, column in enumerate(table.columns)
        if not column.unseen and not column.headline and (row.name, number) in table.cells
    ]
    return float(np.mean([cell.mean for cell in means])) if means else math.nan


def _arm(
    row: TableRow, lines: Mapping[int, pd.DataFrame], goal: Goal | None, metric: Metric
) -> ArmConvergence:
    if goal is None:
        return ArmConvergence(row, lines, {}, {})
    sign = 1 if metric.higher_is_better else -1
    reached = {
        axis: {
            seed: first_reached(
                line[axis].to_numpy(), sign * line[VALUE].to_numpy(), sign * goal.value
            )
            for seed, line in lines.items()
        }
        for axis in AXES
        if all(line[axis].notna().all() for line in lines.values())
    }
    medians = {axis: median_over_runs([*found.values()]) for axis, found in reached.items()}
    return ArmConvergence(row, lines, reached, medians)


def _raced(
    arms: Sequence[ArmConvergence], reference: ArmConvergence | None, runs: int
) -> tuple[ArmConvergence, ...]:
    """Every other federated arm against the reference, where both have a line in every run."""
    if reference is None or len(reference.reached.get(ROUNDS, {})) < runs:
        return tuple(arms)
    found = {}
    for arm in arms:
        own = arm.reached.get(ROUNDS, {})
        if arm is not reference and arm.row.is_federated and len(own) == runs:
            theirs = [reference.reached[ROUNDS][seed] for seed in own]
            found[arm.row.name] = race([*own.values()], theirs)
    corrected = dict(zip(found, holm([run.p for run in found.values()]), strict=True))
    return tuple(
        ArmConvergence(
            arm.row,
            arm.lines,
            arm.reached,
            arm.medians,
            found.get(arm.row.name),
            corrected.get(arm.row.name),
        )
        for arm in arms
    )
