"""Did the strategies act? What ``curves.csv`` and the results say of every federated job.

The report knows no strategy. ``run.json`` says of each what it does and whether it acts: whether a
ratio or a moved fraction is expected to differ from 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import pandas as pd

from fedi2i.metric_files import RECEIVED, SAMPLES, SENT, TRAFFIC
from fedi2i.site_names import ALL_SITES, RESERVED, SERVER
from report.numbers.rows import (
    TableRow,
    converged_rows,
    global_rows,
    personal_rows,
    reference_row,
)
from report.run.records import Arm, Run

SMALLEST_ACTION = 1e-3
"""Ratios and fractions below this do not count as an action."""
ROLES = ("generator", "discriminator")
STRATEGY = "strategy/"
SITE_RATIO, SERVER_RATIO = f"{STRATEGY}ratio_", f"{STRATEGY}server_ratio_"
MOVED = re.compile(r"[^/]+/moved_(.+)")
"""Metrics with the fraction of channels that moved; a role follows. A strategy writes them under a
name of its own."""
MOVED_GROUP = re.compile(r"[^/]+/moved/(.+)")
"""The same for one channel group, whose name follows."""


MATCHABLE = re.compile(r"[^/]+/matchable_(.+)")
"""The share of hidden channels that could move at all, by role."""


class Verdict(Enum):
    """What the diagnostics say of a strategy."""

    ACTED = "acted"
    NOTHING = "changed nothing"
    UNMATCHABLE = "no channel can be matched"
    NO_TERM = "no term of its own"
    UNEXPECTED = "acted, though it should not"
    NOT_RECORDED = "not recorded"
    NOT_SAID = "no expectation known"
    DIVERGED = "diverged"


@dataclass(frozen=True)
class OverRounds:
    """A quantity over the rounds of a run.

    Attributes:
        mean: over rounds, each with equal weight; infinite or NaN when one value is.
        first: in the first round that recorded it.
        last: in the last round that recorded it.
    """

    mean: float
    first: float
    last: float


@dataclass(frozen=True)
class JobEffects:
    """What one federated job recorded of its strategy.

    Attributes:
        job: the job's name in ``curves.csv``.
        label: as shown.
        does: what the strategy does, a few words, or None where ``run.json`` does not say.
        acts: whether a ratio or a moved fraction is expected to differ from 0, or None likewise.
        diverged: whether one of its models or diagnostics is no number.
        site_ratio: role to ||term|| / ||task gradient||, mean over sites.
        server_ratio: role to ||new global - weighted mean|| / ||weighted mean - received||.
        moved: role to the fraction of channels that the strategy moved.
        matchable: role to the share of hidden channels that it could move at all.
        largest: the largest of all recorded ratios and fractions; None when nothing was recorded.
        bytes_per_round: sent to and received from all sites, mean over training rounds.
        bytes_total: the same over the whole run, the final evaluation included.
        seconds: wall-clock time of the job.
    """

    job: str
    label: str
    does: str | None
    acts: bool | None
    diverged: bool
    site_ratio: Mapping[str, OverRounds]
    server_ratio: Mapping[str, OverRounds]
    moved: Mapping[str, OverRounds]
    matchable: Mapping[str, OverRounds]
    largest: float | None
    bytes_per_round: int | None
    bytes_total: int | None
    seconds: float | None

    @property
    def verdict(self) -> Verdict:
        """Whether the strategy did what ``run.json`` promises, as far as was recorded."""
        if self.diverged:
            return Verdict.DIVERGED
        acted = self.largest is not None and self.largest >= SMALLEST_ACTION
        if self.acts is None:
            return Verdict.ACTED if acted else Verdict.NOT_SAID
        if not self.acts:
            return Verdict.UNEXPECTED if acted else Verdict.NO_TERM
        if self.largest is None:
            return Verdict.NOT_RECORDED
        if not acted and self.matchable and not any(v.mean for v in self.matchable.values()):
            return Verdict.UNMATCHABLE
        return Verdict.ACTED if acted else Verdict.NOTHING


@dataclass(frozen=True)
class StrategyEffects:
    """What the strategies of a run did, by their diagnostics and by their results.

    Attributes:
        jobs: the diagnostics of every federated job; empty when the run recorded none.
        reference: the row that results are compared with, or None.
        equal: global strategies whose every test value is that of the reference.
        equal_models: personal strategies whose models of all sites give equal values.
    """

    jobs: tuple[JobEffects, ...]
    reference: TableRow | None
    equal: tuple[TableRow, ...]
    equal_models: tuple[TableRow, ...]

    @property
    def says_nothing(self) -> bool:
        """Whether ``run.json`` says of no strategy what it does."""
        return all(job.does is None and job.acts is None for job in self.jobs)

    def labels(self, verdict: Verdict) -> list[str]:
        """Labels of the jobs with a verdict."""
        return [job.label for job in self.jobs if job.verdict == verdict]


def strategy_effects(run: Run, rows: Sequence[TableRow], patients: pd.DataFrame) -> StrategyEffects:
    """Collect what the strategies did.

    Args:
        run: the run.
        rows: its table rows.
        patients: columns row, site, subject, metric, value.
    """
    return StrategyEffects(
        jobs=_job_effects(run, rows),
        reference=reference_row(rows),
        equal=_equal_to_reference(patients, rows),
        equal_models=_families_of_equal_models(run, rows),
    )


def is_diagnostic(metric: str) -> bool:
    """Whether a metric says what a strategy did, not how good its model is."""
    told = metric.startswith((STRATEGY, TRAFFIC)) or MATCHABLE.fullmatch(metric) is not None
    return told or metric == SAMPLES or _is_moved(metric)


def _shows_action(metric: str) -> bool:
    return metric.startswith((SITE_RATIO, SERVER_RATIO)) or _is_moved(metric)


def _is_moved(metric: str) -> bool:
    return any(pattern.fullmatch(metric) for pattern in (MOVED, MOVED_GROUP))


def diagnostic_values(run: Run) -> pd.DataFrame:
    """The lines arm (that is job), site, round, metric, value of all diagnostics; may be empty."""
    if run.curves is None:
        return pd.DataFrame(columns=["arm", "site", "round", "metric", "value"])
    return run.curves[run.curves["metric"].map(is_diagnostic)]


def per_round(values: pd.DataFrame, metric: str, whole: str | None) -> pd.Series:
    """The value of each round of one job.

    Args:
        values: the diagnostics of the job.
        metric: which one.
        whole: the site whose lines are that value (``server``), or None for the mean over sites,
            each with equal weight. Where there are no such lines, those of ``all`` are taken.

    Returns:
        Indexed by round, in order; empty when nothing was recorded, NaN where a value is.
    """
    found = values[values["metric"] == metric]
    wanted = ~found["site"].isin(RESERVED) if whole is None else found["site"] == whole
    chosen = found[wanted] if wanted.any() else found[found["site"] == ALL_SITES]
    return chosen.groupby("round")["value"].mean(skipna=False)


def moved_metrics(values: pd.DataFrame, pattern: re.Pattern[str]) -> dict[str, str]:
    """The role or channel group of each metric that matches a pattern -> the metric.

    Args:
        values: lines of ``curves.csv``.
        pattern: ``MOVED`` for roles, ``MOVED_GROUP`` for channel groups.
    """
    matches = map(pattern.fullmatch, values["metric"].unique())
    return {match[1]: match[0] for match in matches if match}


def job_label(arms: Sequence[Arm]) -> str:
    """One name for all models of a job: ``X`` for ``X (global)`` and ``X (personal)``.

    Labels that differ in more than what stands in brackets are given side by side.
    """
    labels = list(
        dict.fromkeys(arm.family_label if arm.kind == "personal" else arm.label for arm in arms)
    )
    stems = {label.partition(" (")[0] for label in labels}
    if len(labels) > 1 and len(stems) == 1:
        return stems.pop()
    return " / ".join(labels)


def _job_effects(run: Run, rows: Sequence[TableRow]) -> tuple[JobEffects, ...]:
    """One record per federated job, in the order of the tables; none without any diagnostics."""
    values = diagnostic_values(run)
    if values.empty:
        return ()
    jobs: dict[str, list[TableRow]] = {}
    for row in rows:
        if row.is_federated:
            jobs.setdefault(row.arms[0].job, []).append(row)
    return tuple(_effects_of(job, own, values[values["arm"] == job]) for job, own in jobs.items())


def _effects_of(job: str, rows: Sequence[TableRow], values: pd.DataFrame) -> JobEffects:
    arms = [arm for row in rows for arm in row.arms]
    moved, matchable = (moved_metrics(values, pattern) for pattern in (MOVED, MATCHABLE))

    def by_role(metrics: Mapping[str, str], whole: str | None) -> dict[str, OverRounds]:
        curves = {role: per_round(values, metrics.get(role, ""), whole) for role in ROLES}
        return {role: _over_rounds(curve) for role, curve in curves.items() if len(curve)}

    acting = values[values["metric"].map(_shows_action).astype(bool)]["value"]
    bytes_per_round, bytes_total = _traffic(values)
    return JobEffects(
        job=job,
        label=job_label(arms),
        does=next((arm.does for arm in arms if arm.does is not None), None),
        acts=next((arm.acts for arm in arms if arm.acts is not None), None),
        diverged=any(row.diverged for row in rows) or bool(acting.isna().any()),
        site_ratio=by_role({role: f"{SITE_RATIO}{role}" for role in ROLES}, None),
        server_ratio=by_role({role: f"{SERVER_RATIO}{role}" for role in ROLES}, SERVER),
        moved=by_role(moved, SERVER),
        matchable=by_role(matchable, SERVER),
        largest=float(acting.max()) if len(acting) else None,
        bytes_per_round=bytes_per_round,
        bytes_total=bytes_total,
        seconds=arms[0].seconds,
    )


def _over_rounds(curve: pd.Series) -> OverRounds:
    return OverRounds(float(curve.mean(skipna=False)), float(curve.iloc[0]), float(curve.iloc[-1]))


def _traffic(values: pd.DataFrame) -> tuple[int | None, int | None]:
    """Bytes per training round and in total, over all sites, both ways.

    Rounds in which no site sent anything back, such as the final evaluation, are in the total only.
    """
    carried = values[values["metric"].isin((SENT, RECEIVED)) & ~values["site"].isin(RESERVED)]
    if carried.empty:
        return None, None
    training = carried[carried["metric"] == RECEIVED]["round"].unique()
    of_training = carried[carried["round"].isin(training)]["value"].sum()
    per_training = round(of_training / len(training)) if len(training) else None
    return per_training, round(carried["value"].sum())


def _equal_to_reference(patients: pd.DataFrame, rows: Sequence[TableRow]) -> tuple[TableRow, ...]:
    """The global strategies whose every test value is that of the reference."""
    reference = reference_row(rows)
    if reference is None or reference.kind != "federated":
        return ()
    table = patients.pivot(index=["site", "subject", "metric"], columns="row", values="value")
    others = [row for row in converged_rows(global_rows(rows)) if row != reference]
    return tuple(row for row in others if table[row.name].equals(table[reference.name]))


def _families_of_equal_models(run: Run, rows: Sequence[TableRow]) -> tuple[TableRow, ...]:
    """The personal strategies whose models of all sites give equal values for every patient."""
    test = run.test_rows
    found = []
    for row in converged_rows(personal_rows(rows)):
        names = [arm.name for arm in row.arms]
        values = test[test["arm"].isin(names)]
        spread = values.groupby(["site", "subject", "metric"])["value"].nunique()
        if len(names) > 1 and (spread == 1).all():
            found.append(row)
    return tuple(found)
