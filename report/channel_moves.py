"""Which channels FedMA moved: per role over rounds, and per channel group and round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from report.diagnostic_rows import (
    MOVED,
    MOVED_GROUP,
    ROLES,
    SERVER,
    diagnostic_rows,
    per_round,
)
from report.diagnostics import StrategyDiagnosis
from report.records import Run
from report.short_names import natural_order, short_names


@dataclass(frozen=True)
class MovedCurves:
    """The fraction of moved channels of one arm.

    Attributes:
        label: of the arm.
        roles: role to values by round, in [0, 1].
    """

    label: str
    roles: dict[str, pd.Series]


@dataclass(frozen=True)
class GroupMoves:
    """The fraction of moved channels of every channel group of one arm.

    Attributes:
        label: of the arm.
        groups: rows, ``<network>/<dotted name>``, in natural order.
        rounds: columns.
        fractions: shape (groups, rounds), mean over sites, in [0, 1]; NaN where nothing was
            recorded, as in rounds in which a group was not up for matching.
    """

    label: str
    groups: tuple[str, ...]
    rounds: tuple[int, ...]
    fractions: npt.NDArray[np.float64]


def moved_curves(run: Run, jobs: Sequence[StrategyDiagnosis]) -> tuple[MovedCurves, ...]:
    """One record per arm that recorded moved fractions of a role."""
    rows = diagnostic_rows(run)
    found = []
    for job in jobs:
        own = rows[rows["arm"] == job.job]
        roles = {role: per_round(own, f"{MOVED}{role}", SERVER) for role in ROLES}
        recorded = {role: curve for role, curve in roles.items() if len(curve)}
        if recorded:
            found.append(MovedCurves(job.label, recorded))
    return tuple(found)


def group_moves(run: Run, jobs: Sequence[StrategyDiagnosis]) -> tuple[GroupMoves, ...]:
    """One record per arm that recorded moved fractions of channel groups, all on the same rows."""
    rows = diagnostic_rows(run)
    rows = rows[rows["metric"].str.startswith(MOVED_GROUP)]
    groups = sorted(rows["metric"].unique(), key=_group_order)
    found = []
    for job in jobs:
        own = rows[rows["arm"] == job.job]
        if own.empty:
            continue
        curves = {metric: per_round(own, metric, None) for metric in groups}
        table = pd.DataFrame(curves).sort_index()
        found.append(
            GroupMoves(
                label=job.label,
                groups=tuple(metric.removeprefix(MOVED_GROUP) for metric in groups),
                rounds=tuple(int(number) for number in table.index),
                fractions=table.to_numpy(dtype=float).T,
            )
        )
    return tuple(found)


def _group_order(metric: str) -> tuple[bool, list[tuple[int, int, str]]]:
    """Generators first, then by name."""
    return not metric.startswith(f"{MOVED_GROUP}{ROLES[0]}"), natural_order(metric)


def group_labels(groups: Sequence[str]) -> dict[str, str]:
    """Group to a short label: the network and what tells its groups apart."""
    networks: dict[str, list[str]] = {}
    for group in groups:
        network, _, name = group.partition("/")
        networks.setdefault(network, []).append(name)
    return {
        f"{network}/{name}": f"{network} {short}"
        for network, names in networks.items()
        for name, short in short_names(names).items()
    }
