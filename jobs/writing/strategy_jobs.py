"""The committed jobs: one name and the strategy values that differ from the strategy's defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedi2i.errors import ConfigError
from fedi2i.typed_config import nearest

STRATEGY_JOBS: dict[str, dict[str, Any]] = {
    "fedavg": {"name": "fedavg"},
    "fedavg_independent": {"name": "fedavg", "initialisation": "independent"},
    "fedprox": {"name": "fedprox"},
    "fedma": {"name": "fedma"},
    "fedma_independent": {"name": "fedma", "initialisation": "independent"},
    "fedma_layerwise": {"name": "fedma_layerwise", "initialisation": "independent"},
    "fedavgm": {"name": "fedavgm"},
    "fedadam": {"name": "fedadam"},
    "fedyogi": {"name": "fedadam", "server_optimizer": "yogi"},
    "fedbn": {"name": "fedbn"},
    "fedper": {"name": "fedper"},
    "scaffold": {"name": "scaffold"},
    "feddyn": {"name": "feddyn"},
    "ditto": {"name": "ditto"},
    "fedmedian": {"name": "fedmedian"},
    "trimmed_mean": {"name": "trimmed_mean"},
    "cyclic": {"name": "cyclic"},
    "swarm": {"name": "swarm"},
}
"""Strategy values of each committed job; the rest are the defaults of
``lightning_modules.strategies.settings``, and docs/strategies.md says how those were chosen."""

WHAT_JOBS_DIFFER_IN = frozenset(key for values in STRATEGY_JOBS.values() for key in values)
"""What makes a job this one and no other, and is no tuning: name, start, server's optimizer."""

_LABELS = {
    "fedavg": "FedAvg",
    "fedavg_independent": "FedAvg, independent start",
    "fedprox": "FedProx",
    "fedma": "FedMA",
    "fedma_independent": "FedMA, independent start",
    "fedma_layerwise": "FedMA layer by layer",
    "fedavgm": "FedAvgM",
    "fedadam": "FedAdam",
    "fedyogi": "FedYogi",
    "fedbn": "FedBN",
    "fedper": "FedPer",
    "scaffold": "SCAFFOLD",
    "feddyn": "FedDyn",
    "ditto": "Ditto",
    "fedmedian": "FedMedian",
    "trimmed_mean": "Trimmed mean",
    "cyclic": "Cyclic",
    "swarm": "Swarm",
}

_BOTH_STARTS = ("fedavg", "fedavg_independent", "fedma", "fedma_independent")


def with_both_starts(jobs: Sequence[str]) -> tuple[str, ...]:
    """The jobs to compare: FedMA never from one start alone, nor without FedAvg beside it.

    From a common start FedMA is FedAvg, from independent ones it is not (docs/strategies.md): one
    of the two alone would mislead. The jobs that are missing come after those that were asked for.
    """
    if not any(STRATEGY_JOBS.get(job, {}).get("name") == "fedma" for job in jobs):
        return tuple(jobs)
    return (*jobs, *(job for job in _BOTH_STARTS if job not in jobs))


def label_of(job: str) -> str:
    """The job's name as reports show it."""
    return _LABELS.get(job, job)


def strategy_overrides(job: str) -> dict[str, Any]:
    """The experiment's values for one of the committed jobs.

    Raises:
        ConfigError: there is no such job.
    """
    if job not in STRATEGY_JOBS:
        raise ConfigError(f"unknown strategy '{job}'; {nearest(job, STRATEGY_JOBS)}")
    return {"strategy": STRATEGY_JOBS[job]}
