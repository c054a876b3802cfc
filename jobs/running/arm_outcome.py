"""A finished arm of a comparison: its models, its metrics and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedi2i.metric_files import RECEIVED, SENT, MetricRow, read_metrics
from fedi2i.site_names import ALL_SITES
from lightning_modules.strategies.catalogue import StrategyJob


@dataclass(frozen=True)
class ArmModel:
    """One model that an arm ends with.

    Attributes:
        name: its name in ``results.csv``.
        label: as the report shows it.
        path: its file; None for what has none of its own.
        family: what models of several sites belong to; None for a model that is everybody's.
        site: the site that it belongs to, if any.
        members: the models whose outputs it averages, in the place of a file.
    """

    name: str
    label: str
    path: Path | None = None
    family: str | None = None
    site: str | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArmOutcome:
    """A finished arm.

    Attributes:
        name: the arm's name, as in ``curves.csv``.
        models: its models.
        metrics: its metrics file (site, round, metric, value); None where its models have no
            rounds in common.
        seconds: its wall time.
        rounds: its rounds.
        steps: optimizer steps of each network, over all sites and rounds.
        bytes_sent: bytes of arrays that went to sites and came from them.
        note: what its models are.
        job: the strategy's job that it ran; None for arms without a federation.
        privacy: what its record says of a privacy mechanism; empty without one.
        does: what it does, as part of a sentence, where no job says it.
    """

    name: str
    models: tuple[ArmModel, ...]
    metrics: Path | None
    seconds: float
    rounds: int
    steps: int
    bytes_sent: int
    note: str
    job: StrategyJob | None = None
    privacy: Mapping[str, Any] = field(default_factory=dict)
    does: str = ""

    @property
    def rows(self) -> list[MetricRow]:
        """The rows of its metrics file; none where it has no such file."""
        return read_metrics(self.metrics) if self.metrics else []


def bytes_sent(rows: list[MetricRow]) -> int:
    """Bytes of arrays in both directions, over all sites and rounds, as the server counted them."""
    return int(sum(row[3] for row in rows if row[0] != ALL_SITES and row[2] in (SENT, RECEIVED)))


def final_mean(rows: list[MetricRow], metric: str) -> float | None:
    """Mean over sites of a metric after the last round that has it."""
    found = {row[1]: row[3] for row in rows if row[0] == ALL_SITES and row[2] == metric}
    return found[max(found)] if found else None
