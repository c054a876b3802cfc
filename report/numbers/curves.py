"""Curves over rounds: which recorded values make each line, and which range shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fedi2i.site_names import ALL_SITES
from report.numbers.rows import TableRow
from report.numbers.statistics import usual_floor
from report.run.records import Arm, Run, Site

VALIDATION, PERSONAL = "val/", "personal/"
FAR_OUT_FRACTION = 0.1


@dataclass(frozen=True)
class CurveBook:
    """The rows of ``curves.csv``, ready to be looked up.

    Attributes:
        lines: (job, site or ``all``, metric) to values indexed by round, in order of rounds.
        metrics: the metrics in file order.
        global_jobs: jobs whose ``val/...`` rows belong to a global model that is itself listed.
        sites: all sites of the run.
    """

    lines: Mapping[tuple[str, str, str], pd.Series]
    metrics: tuple[str, ...]
    global_jobs: frozenset[str]
    sites: tuple[Site, ...]

    def line(self, arm: Arm, site: str, metric: str) -> pd.Series | None:
        """What was recorded of one model; None when nothing was.

        Where a strategy ends in a global model and in personal ones, the job's rows belong
        to the global model, and ``personal/...`` rows take the place of ``val/...`` for the others.
        """
        if arm.kind == "personal" and arm.job in self.global_jobs:
            if not metric.startswith(VALIDATION):
                return None
            metric = PERSONAL + metric.removeprefix(VALIDATION)
        return self.lines.get((arm.job, site, metric))


def curve_book(run: Run) -> CurveBook:
    """Sort the rows of ``curves.csv`` into lines; empty when the run has none."""
    lines: dict[tuple[str, str, str], pd.Series] = {}
    metrics: tuple[str, ...] = ()
    if run.curves is not None:
        metrics = tuple(run.curves["metric"].unique())
        for (job, site, metric), recorded in run.curves.groupby(["arm", "site", "metric"]):
            lines[job, site, metric] = recorded.set_index("round")["value"].sort_index()
    global_jobs = frozenset(arm.name for arm in run.about.arms if arm.site is None)
    return CurveBook(lines, metrics, global_jobs, run.about.sites)


def site_curve(book: CurveBook, row: TableRow, site: Site, metric: str) -> pd.Series:
    """Values over rounds of a table row at one site; the mean over its models where it has several.

    Returns:
        Indexed by round; empty when nothing was recorded.
    """
    return _mean_of_models(book, row.arms_at(site), site.name, metric)


def mean_curve(book: CurveBook, row: TableRow, metric: str) -> pd.Series:
    """The mean over federated sites, every site with equal weight.

    Only rounds in which all reporting sites recorded a number enter, so that the set of sites does
    not change along the line. Arms that recorded nothing per site give their rows of site ``all``.
    """
    federated = [site for site in book.sites if not site.unseen]
    curves = [site_curve(book, row, site, metric) for site in federated]
    curves = [curve for curve in curves if len(curve)]
    if curves:
        return pd.concat(curves, axis=1).dropna().mean(axis=1)
    return _mean_of_models(book, row.arms, ALL_SITES, metric)


def sites_with(book: CurveBook, rows: tuple[TableRow, ...], metric: str) -> tuple[Site, ...]:
    """Sites for which a row shown there recorded the metric."""
    return tuple(
        site for site in book.sites if any(len(site_curve(book, row, site, metric)) for row in rows)
    )


def _mean_of_models(book: CurveBook, arms: tuple[Arm, ...], site: str, metric: str) -> pd.Series:
    # models of one job share its lines: each is taken once
    lines = [book.line(arm, site, metric) for arm in {arm.job: arm for arm in arms}.values()]
    found = [line for line in lines if line is not None]
    if not found:
        return pd.Series(dtype=float)
    return pd.concat(found, axis=1).mean(axis=1)


def late_range(curves: Sequence[pd.Series]) -> tuple[float, float]:
    """The y axis: from the smallest to the largest value of the second half of the rounds.

    Early rounds, in which everything rises alike, would flatten what tells strategies apart. Nor do
    strategies set the range whose last value is far below the others (``usual_floor``, and more
    than 10 % of the median).

    Returns:
        Lower and upper end, with a margin of 5 %.
    """
    finite = [curve[np.isfinite(curve)] for curve in curves]
    finite = [curve for curve in finite if len(curve)]
    if not finite:
        return 0.0, 1.0
    last = np.array([float(curve.iloc[-1]) for curve in finite])
    floor = usual_floor(last, FAR_OUT_FRACTION)
    half = max(int(curve.index.max()) for curve in finite) / 2
    late = pd.concat(
        [
            curve[curve.index >= half]
            for curve, value in zip(finite, last, strict=True)
            if value >= floor
        ]
    )
    margin = 0.05 * (float(late.max() - late.min()) or 1.0)
    return float(late.min()) - margin, float(late.max()) + margin
