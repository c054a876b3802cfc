"""Draw a matching study: barriers against common steps, rounds after the merge, paths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from report.figures.style import STYLE, WIDTH_INCHES, LineStyle, add_legend
from report.numbers.over_seeds.matching import round_numbers
from report.run.matching import (
    BEST_SINGLE,
    CHOSEN,
    INDEPENDENT,
    SHARED,
    MatchingStudy,
    merge_label,
    start_label,
)

MOST_COLUMNS = 4
PANEL_HEIGHT_INCHES = 2.2
TEST = "test"
STYLES: Mapping[str, LineStyle] = {
    "plain": LineStyle("#222222", "-", "o"),
    "forward": LineStyle("#56B4E9", "--", "v"),
    "two-sweeps": LineStyle("#0072B2", "-", "^"),
    "converged": LineStyle("#D55E00", "-", "s"),
    "joint": LineStyle("#009E73", "-.", "D"),
    "coordinate": LineStyle("#CC79A7", "-.", "P"),
    "activations": LineStyle("#E69F00", ":", "X"),
    CHOSEN: LineStyle("#7B3294", "-", "*"),
    BEST_SINGLE: LineStyle("#222222", ":", "D", filled=False),
}
L1 = "L1 error, test"


def draw_barriers(study: MatchingStudy) -> Figure:
    """The barrier of two models against what they had in common; a point per seed.

    Starts stand side by side in the order of the study; the line joins means over seeds. The right
    panel is of common steps at one site alone, where there are any.
    """
    barriers = study.table[
        (study.table["quantity"] == "barrier")
        & (study.table["split"] == TEST)
        & (study.table["width"] == study.width)
    ]
    starts = sorted(map(str, barriers["start"].unique()), key=lambda name: name != INDEPENDENT)
    alone = [name for name in starts if name.startswith("one-site")]
    panels = [[name for name in starts if name not in alone]]
    titles = ["Common steps at all sites"]
    if alone:
        panels.append([*(n for n in starts if n in (INDEPENDENT, SHARED)), *alone])
        titles.append("Common steps at one site alone")
    with matplotlib.rc_context(STYLE):
        widths = [len(panel) + 1 for panel in panels]
        figure = Figure(figsize=(WIDTH_INCHES, 3.6), layout="constrained")
        axes = figure.subplots(
            1, len(panels), squeeze=False, sharey=True, gridspec_kw={"width_ratios": widths}
        )[0]
        drawn: dict[str, Artist] = {}
        for axis, panel, title in zip(axes, panels, titles, strict=True):
            axis.set_title(title)
            _draw_barriers(axis, barriers, panel, drawn)
        axes[0].set_ylabel("barrier of two models (L1), test")
        add_legend(figure, drawn)
        return figure


def _draw_barriers(
    axis: Axes, barriers: pd.DataFrame, starts: Sequence[str], drawn: dict[str, Artist]
) -> None:
    merges = [str(name) for name in barriers["merge"].unique()]
    shifts = np.linspace(-0.18, 0.18, len(merges))
    places = np.arange(len(starts))
    for merge, shift in zip(merges, shifts, strict=True):
        style = _style(merge)
        found = barriers[barriers["merge"] == merge]
        values = [found[found["start"] == start]["value"].to_numpy() for start in starts]
        for place, of_seeds in zip(places, values, strict=True):
            x = np.full(len(of_seeds), place + shift)
            axis.plot(x, of_seeds, ".", color=style.colour, ms=4, alpha=0.5)
        means = [float(of_seeds.mean()) if len(of_seeds) else math.nan for of_seeds in values]
        look: dict[str, Any] = {
            "color": style.colour,
            "linestyle": style.dashes,
            "marker": style.marker,
        }
        # No line to models that have nothing in common: they are no number of common steps.
        alone = sum(start == INDEPENDENT for start in starts)
        axis.plot(places[:alone] + shift, means[:alone], **look)
        (line,) = axis.plot(places[alone:] + shift, means[alone:], linewidth=1.1, **look)
        drawn.setdefault(merge_label(merge), line)
    axis.axhline(0, color="#888888", linewidth=0.8, zorder=1)
    axis.set_xticks(places, [_short(start) for start in starts])
    axis.grid(axis="x", visible=False)


def draw_rounds(study: MatchingStudy) -> Figure | None:
    """The error after every round, per merge that the rounds began with; None without rounds.

    The best single model, handed to every site, is the line to be held against all others.
    """
    numbers = round_numbers(study)
    if not numbers or not numbers[-1]:
        return None
    rounds = study.table[
        study.table["quantity"].str.startswith("round_l1@") & (study.table["split"] == TEST)
    ]
    starts = [str(name) for name in rounds["start"].unique()]
    with matplotlib.rc_context(STYLE):
        width = WIDTH_INCHES if len(starts) > 1 else 0.75 * WIDTH_INCHES
        figure = Figure(figsize=(width, 3.4), layout="constrained")
        axes = figure.subplots(1, len(starts), squeeze=False, sharey=True)[0]
        drawn: dict[str, Artist] = {}
        for axis, start in zip(axes, starts, strict=True):
            axis.set_title(start_label(start))
            _draw_rounds(axis, rounds[rounds["start"] == start], numbers, drawn)
        axes[0].set_ylabel(L1)
        add_legend(figure, drawn)
        return figure


def _draw_rounds(
    axis: Axes, rounds: pd.DataFrame, numbers: Sequence[int], drawn: dict[str, Artist]
) -> None:
    for merge in [str(name) for name in rounds["merge"].unique()]:
        style = _style(merge)
        of_merge = rounds[rounds["merge"] == merge]
        table = of_merge.pivot_table(index="quantity", columns="seed", values="value")
        table = table.loc[[f"round_l1@{number}" for number in numbers]]
        axis.fill_between(
            numbers, table.min(axis=1), table.max(axis=1), color=style.colour, alpha=0.1, lw=0
        )
        (line,) = axis.plot(
            numbers,
            table.mean(axis=1),
            color=style.colour,
            linestyle=style.dashes,
            marker=style.marker,
            markerfacecolor=style.colour if style.filled else "white",
            linewidth=2.2 if merge == BEST_SINGLE else 1.3,
        )
        drawn.setdefault(merge_label(merge), line)
    axis.set_xlabel("rounds after the merge")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_paths(study: MatchingStudy) -> Figure:
    """The error along the straight path between two models, a panel per start; means over seeds."""
    paths = study.table[
        study.table["quantity"].str.startswith("path_l1@")
        & (study.table["split"] == TEST)
        & (study.table["width"] == study.width)
    ]
    paths = paths.assign(part=paths["quantity"].str.partition("@")[2].astype(float))
    starts = [str(name) for name in paths["start"].unique()]
    columns = min(len(starts), MOST_COLUMNS)
    rows = math.ceil(len(starts) / columns)
    with matplotlib.rc_context(STYLE):
        height = PANEL_HEIGHT_INCHES * rows + 0.5
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False, sharey=True)))
        drawn: dict[str, Artist] = {}
        for place, (axis, start) in enumerate(zip(axes, starts, strict=False)):
            axis.set_title(start_label(start))
            _draw_paths(axis, paths[paths["start"] == start], drawn)
            axis.set_ylabel(L1 if place % columns == 0 else "")
            if place + columns >= len(starts):
                axis.set_xlabel("part of the way")
        for axis in axes[len(starts) :]:
            axis.remove()
        add_legend(figure, drawn)
        return figure


def _draw_paths(axis: Axes, paths: pd.DataFrame, drawn: dict[str, Artist]) -> None:
    for merge in [str(name) for name in paths["merge"].unique()]:
        style = _style(merge)
        mean = paths[paths["merge"] == merge].groupby("part")["value"].mean()
        (line,) = axis.plot(mean.index, mean, color=style.colour, linestyle=style.dashes, lw=1.3)
        drawn.setdefault(merge_label(merge), line)
    ends = paths.groupby("part")["value"].mean()
    axis.plot([0, 1], [ends.loc[0.0], ends.loc[1.0]], color="#9aa5b1", linewidth=0.9, zorder=1)


def _style(merge: str) -> LineStyle:
    return STYLES.get(merge, LineStyle("#9aa5b1", "-", "."))


def _short(start: str) -> str:
    kind, _, percent = start.rpartition("-")
    return f"{percent} %" if kind in ("common", "one-site") else start
