"""Did the strategies act? The diagnostics of every federated job, as numbers and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import pandas as pd

from report.diagnostic_rows import (
    ALL_SITES,
    BYTES_RECEIVED,
    BYTES_SENT,
    MOVED,
    MOVED_GROUP,
    ROLES,
    SERVER,
    SERVER_RATIO,
    SITE_RATIO,
    diagnostic_rows,
    per_round,
)
from report.methods import Method
from report.records import Arm, Run
from report.strategy_notes import STRATEGY_NOTES, StrategyNote

SMALLEST_ACTION = 1e-3
"""Ratios and fractions below this do not count as an action."""


class Verdict(Enum):
    """What the diagnostics say of a strategy."""

    ACTED = "acted"
    NOTHING = "changed nothing"
    NO_TERM = "no term of its own"
    UNEXPECTED = "acted, though it should not"
    NOT_RECORDED = "not recorded"
    NOT_KNOWN = "strategy not known"


@dataclass(frozen=True)
class OverRounds:
    """A quantity over the rounds of a run.

    Attributes:
        mean: over rounds, each with equal weight; infinite when one value is.
        first: in the first round that recorded it.
        last: in the last round that recorded it.
    """

    mean: float
    first: float
    last: float


@dataclass(frozen=True)
class StrategyDiagnosis:
    """The diagnostics of one job.

    Attributes:
        job: the strategy's name.
        label: as shown.
        note: what is known of the strategy, or None.
        site_ratio: role to ||term|| / ||task gradient||, mean over sites.
        server_ratio: role to ||new global - FedAvg mean|| / ||FedAvg mean - received||.
        moved: role to the fraction of channels that FedMA moved.
        largest: the largest of all recorded ratios and fractions; None when nothing was recorded.
        bytes_per_round: sent to and received from all sites, mean over training rounds.
        bytes_total: the same over the whole run, the final evaluation included.
        seconds: wall-clock time of the job.
    """

    job: str
    label: str
    note: StrategyNote | None
    site_ratio: Mapping[str, OverRounds]
    server_ratio: Mapping[str, OverRounds]
    moved: Mapping[str, OverRounds]
    largest: float | None
    bytes_per_round: int | None
    bytes_total: int | None
    seconds: float | None

    @property
    def verdict(self) -> Verdict:
        """Whether the strategy did what its name promises, as far as was recorded."""
        acted = self.largest is not None and self.largest >= SMALLEST_ACTION
        if self.note is None:
            return Verdict.ACTED if acted else Verdict.NOT_KNOWN
        if not self.note.acts:
            return Verdict.UNEXPECTED if acted else Verdict.NO_TERM
        if self.largest is None:
            return Verdict.NOT_RECORDED
        return Verdict.ACTED if acted else Verdict.NOTHING


def diagnoses(run: Run, methods: Sequence[Method]) -> tuple[StrategyDiagnosis, ...]:
    """One record per federated job, in the order of the tables; none without any diagnostics."""
    rows = diagnostic_rows(run)
    if rows.empty:
        return ()
    arms: dict[str, list[Arm]] = {}
    for method in methods:
        if method.is_federated:
            arms.setdefault(method.arms[0].job, []).extend(method.arms)
    return tuple(_diagnosis(job, found, rows[rows["arm"] == job]) for job, found in arms.items())


def job_label(arms: Sequence[Arm]) -> str:
    """One name for all models of a job: ``Ditto`` for ``Ditto (global)`` and ``Ditto (personal)``.

    Labels that differ in more than what stands in brackets are given side by side.
    """
    labels = list(
        dict.fromkeys(arm.family_label if arm.kind == "personal" else arm.label for arm in arms)
    )
    stems = {label.partition(" (")[0] for label in labels}
    if len(labels) > 1 and len(stems) == 1:
        return stems.pop()
    return " / ".join(labels)


def _diagnosis(job: str, arms: Sequence[Arm], rows: pd.DataFrame) -> StrategyDiagnosis:
    def of_roles(prefix: str, whole: str | None) -> dict[str, OverRounds]:
        curves = {role: per_round(rows, f"{prefix}{role}", whole) for role in ROLES}
        return {role: _over_rounds(curve) for role, curve in curves.items() if len(curve)}

    acting = rows["metric"].str.startswith((SITE_RATIO, SERVER_RATIO, MOVED, MOVED_GROUP))
    per_round_bytes, total = _traffic(rows)
    return StrategyDiagnosis(
        job=job,
        label=job_label(arms),
        note=STRATEGY_NOTES.get(job),
        site_ratio=of_roles(SITE_RATIO, None),
        server_ratio=of_roles(SERVER_RATIO, SERVER),
        moved=of_roles(MOVED, SERVER),
        largest=float(rows[acting]["value"].max()) if acting.any() else None,
        bytes_per_round=per_round_bytes,
        bytes_total=total,
        seconds=arms[0].seconds,
    )


def _over_rounds(curve: pd.Series) -> OverRounds:
    return OverRounds(float(curve.mean()), float(curve.iloc[0]), float(curve.iloc[-1]))


def _traffic(rows: pd.DataFrame) -> tuple[int | None, int | None]:
    """Bytes per training round and in total, over all sites, both ways.

    Rounds in which no site sent anything back, such as the final evaluation, are in the total only.
    """
    moved = rows[
        rows["metric"].isin((BYTES_SENT, BYTES_RECEIVED)) & ~rows["site"].isin((ALL_SITES, SERVER))
    ]
    if moved.empty:
        return None, None
    training = moved[moved["metric"] == BYTES_RECEIVED]["round"].unique()
    of_training = moved[moved["round"].isin(training)]["value"].sum()
    per_training = round(of_training / len(training)) if len(training) else None
    return per_training, round(moved["value"].sum())
