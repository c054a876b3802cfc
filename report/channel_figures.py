"""Draw what FedMA moved: curves per role, and a heat map of channel groups over rounds."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from report.channel_moves import GroupMoves, MovedCurves, group_labels
from report.diagnostic_rows import ROLES
from report.figure_style import STYLE, WIDTH_INCHES, add_legend, as_address

# open markers of different size and shape: lines that lie on each other stay visible
_LINES = (
    ("#0072B2", "-", "o", 7.5),
    ("#D55E00", "--", "^", 5.0),
    ("#009E73", "-.", "x", 4.5),
    ("#CC79A7", ":", "s", 3.5),
)
NOT_MATCHED = "#d0d0d0"
HEAT = "Blues"


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
