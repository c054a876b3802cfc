"""Curves over rounds: which recorded values make each line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from report.methods import Method
from report.records import Arm, Run, Site

ALL_SITES = "all"
VALIDATION, PERSONAL = "val/", "personal/"


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

        Where a strategy ends in a global model and in personal ones (Ditto), the job's rows belong
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
        for (job, site, metric), rows in run.curves.groupby(["arm", "site", "metric"]):
            lines[job, site, metric] = rows.set_index("round")["value"].sort_index()
    global_jobs = frozenset(arm.name for arm in run.about.arms if arm.site is None)
    return CurveBook(lines, metrics, global_jobs, run.about.sites)


def site_curve(book: CurveBook, method: Method, site: Site, metric: str) -> pd.Series:
    """Values over rounds of a method at one site; the mean over its models where it has several.

    Returns:
        Indexed by round; empty when nothing was recorded.
    """
    return _mean_of_models(book, method.arms_at(site), site.name, metric)


def mean_curve(book: CurveBook, method: Method, metric: str) -> pd.Series:
    """The mean over federated sites, every site with equal weight.

    Only rounds that all reporting sites recorded enter, so that the set of sites does not change
    along the line. Arms that recorded nothing per site give their rows of site ``all``.
    """
    federated = [site for site in book.sites if not site.unseen]
    curves = [site_curve(book, method, site, metric) for site in federated]
    curves = [curve for curve in curves if len(curve)]
    if curves:
        return pd.concat(curves, axis=1).dropna().mean(axis=1)
    return _mean_of_models(book, method.arms, ALL_SITES, metric)


def sites_with(book: CurveBook, methods: tuple[Method, ...], metric: str) -> tuple[Site, ...]:
    """Sites for which a method shown there recorded the metric."""
    return tuple(
        site
        for site in book.sites
        if any(len(site_curve(book, method, site, metric)) for method in methods)
    )


def _mean_of_models(book: CurveBook, arms: tuple[Arm, ...], site: str, metric: str) -> pd.Series:
    # models of one job share its lines: each is taken once
    lines = [book.line(arm, site, metric) for arm in {arm.job: arm for arm in arms}.values()]
    found = [line for line in lines if line is not None]
    if not found:
        return pd.Series(dtype=float)
    return pd.concat(found, axis=1).mean(axis=1)
