"""Draw which channels a strategy moved: curves per role, and a heat map of groups over rounds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fedi2i.site_names import SERVER
from report.figures.style import STYLE, WIDTH_INCHES, add_legend, as_address
from report.numbers.strategy_effects import (
    MOVED,
    MOVED_GROUP,
    ROLES,
    JobEffects,
    diagnostic_values,
    moved_metrics,
    per_round,
)
from report.run.records import Run

# open markers of different size and shape: lines that lie on each other stay visible
_LINES = (
    ("#0072B2", "-", "o", 7.5),
    ("#D55E00", "--", "^", 5.0),
    ("#009E73", "-.", "x", 4.5),
    ("#CC79A7", ":", "s", 3.5),
)
NOT_MATCHED = "#d0d0d0"
HEAT = "Blues"
MOSTLY = 0.75


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


def moved_curves(run: Run, jobs: Sequence[JobEffects]) -> tuple[MovedCurves, ...]:
    """One record per arm that recorded moved fractions of a role."""
    values = diagnostic_values(run)
    found = []
    for job in jobs:
        own = values[values["arm"] == job.job]
        metrics = moved_metrics(own, MOVED)
        curves = {role: per_round(own, metrics[role], SERVER) for role in ROLES if role in metrics}
        if curves:
            found.append(MovedCurves(job.label, curves))
    return tuple(found)


def group_moves(run: Run, jobs: Sequence[JobEffects]) -> tuple[GroupMoves, ...]:
    """One record per arm that recorded moved fractions of channel groups, all on the same rows."""
    values = diagnostic_values(run)
    groups = sorted(moved_metrics(values, MOVED_GROUP), key=_group_order)
    found = []
    for job in jobs:
        own = values[values["arm"] == job.job]
        metrics = moved_metrics(own, MOVED_GROUP)
        if not metrics:
            continue
        curves = {group: per_round(own, metrics.get(group, ""), None) for group in groups}
        table = pd.DataFrame(curves).sort_index()
        found.append(
            GroupMoves(
                label=job.label,
                groups=tuple(groups),
                rounds=tuple(int(number) for number in table.index),
                fractions=table.to_numpy(dtype=float).T,
            )
        )
    return tuple(found)


def _group_order(group: str) -> tuple[bool, list[tuple[int, int, str]]]:
    """Generators first, then by name."""
    return not group.startswith(ROLES[0]), natural_order(group)


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


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Leave out the words that more than three quarters of the names share.

    ``unet.model.0.conv`` and ``unet.model.1.submodule.0.conv`` become ``0`` and ``1.0``. Numbers
    stay, and so does what would leave a name empty or equal to another one.

    Args:
        names: different dotted names.

    Returns:
        Name to short name, all different.
    """
    parts = {name: name.split(".") for name in names}
    words = {word for split in parts.values() for word in split if not word.isdigit()}
    holders = {word: sum(word in split for split in parts.values()) for word in words}
    for word in sorted(words, key=lambda word: (-holders[word], word)):
        shorter = {name: [p for p in split if p != word] for name, split in parts.items()}
        joined = [".".join(split) for split in shorter.values()]
        distinct = all(joined) and len(set(joined)) == len(joined)
        if holders[word] > MOSTLY * len(parts) and distinct:
            parts = shorter
    return {name: ".".join(split) for name, split in parts.items()}


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sort key of dotted names: words before numbers, and ``model.2`` before ``model.10``."""
    return [
        (1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"[./]", name)
    ]


def draw_moved_curves(arms: Sequence[MovedCurves]) -> str:
    """A panel per role, a line per arm, 0 to 100 %."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES * 0.75, 2.5), layout="constrained")
        axes: list[Axes] = list(figure.subplots(1, len(ROLES), sharex=True, sharey=True))
        for role, axis in zip(ROLES, axes, strict=True):
            axis.set_title(role)
            axis.set_xlabel("round")
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
            axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axis.set_ylim(-0.04, 1.04)
            for index, arm in enumerate(arms):
                curve = arm.roles.get(role)
                colour, dashes, marker, size = _LINES[index % len(_LINES)]
                axis.plot(
                    [] if curve is None else curve.index.to_numpy(),
                    [] if curve is None else curve.to_numpy(),
                    color=colour,
                    linestyle=dashes,
                    marker=marker,
                    markersize=size,
                    markerfacecolor="none",
                    label=arm.label,
                )
        axes[0].set_ylabel("channels moved")
        handles, labels = axes[0].get_legend_handles_labels()
        add_legend(figure, dict(zip(labels, handles, strict=True)))
        return as_address(figure)


def draw_group_moves(arms: Sequence[GroupMoves]) -> str:
    """A heat map per arm, groups down, rounds across; one colour scale from 0 to 100 %."""
    groups = arms[0].groups
    labels = group_labels(groups)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        height = 0.9 + 0.19 * len(groups)
        figure = Figure(figsize=(WIDTH_INCHES * 0.9, height), layout="constrained")
        axes = list(np.ravel(figure.subplots(1, len(arms), sharey=True, squeeze=False)))
        colours = colormaps[HEAT].with_extremes(bad=NOT_MATCHED)
        for arm, axis in zip(arms, axes, strict=True):
            image = axis.imshow(
                np.ma.masked_invalid(arm.fractions),
                cmap=colours,
                vmin=0.0,
                vmax=1.0,
                aspect="auto",
                interpolation="nearest",
            )
            axis.set_title(arm.label)
            axis.set_xlabel("round")
            _mark_rounds(axis, arm.rounds)
            _separate_cells(axis, len(groups), len(arm.rounds))
        axes[0].set_yticks(range(len(groups)), [labels[group] for group in groups])
        bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.01)
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        bar.set_label("channels moved")
        return as_address(figure)


def _mark_rounds(axis: Axes, rounds: Sequence[int]) -> None:
    # at most about ten numbers, or they run into each other
    step = max(1, -(-len(rounds) // 10))
    places = range(0, len(rounds), step)
    axis.set_xticks(list(places), [str(rounds[place]) for place in places])


def _separate_cells(axis: Axes, rows: int, columns: int) -> None:
    axis.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=0.8)
    axis.tick_params(which="minor", length=0)
    axis.tick_params(which="major", length=2)
    for side in axis.spines.values():
        side.set_visible(False)
