"""Curves over rounds: which values make each line."""

from __future__ import annotations

import pandas as pd

from report.methods import Method
from report.records import LOCAL_PREFIX, Run, Site

ALL_SITES = "all"


def site_curve(run: Run, method: Method, site: Site, metric: str) -> pd.Series:
    """Values over rounds of a method at one site; the mean over its arms where it has several.

    Returns:
        Indexed by round; empty when nothing was recorded.
    """
    rows = _rows(run, metric)
    chosen = rows[(rows["site"] == site.name) & rows["arm"].isin(method.arms_at(site))]
    return chosen.groupby("round")["value"].mean()


def mean_curve(run: Run, method: Method, metric: str) -> pd.Series:
    """The mean over federated sites, every site with equal weight.

    Only rounds that all reporting sites recorded enter, so that the set of sites does not change
    along the line. Arms that recorded nothing per site give their rows of site ``all``.
    """
    curves = [site_curve(run, method, site, metric) for site in run.about.federated_sites]
    curves = [curve for curve in curves if len(curve)]
    if curves:
        return pd.concat(curves, axis=1).dropna().mean(axis=1)
    rows = _rows(run, metric)
    chosen = rows[(rows["site"] == ALL_SITES) & rows["arm"].isin(method.arms)]
    return chosen.groupby("round")["value"].mean()


def sites_with(run: Run, metric: str) -> tuple[Site, ...]:
    """Sites for which a method shown there recorded the metric."""
    rows = _rows(run, metric)
    shown = {
        site.name
        for site in run.about.sites
        for arm in rows[rows["site"] == site.name]["arm"].unique()
        if site.unseen or not arm.startswith(LOCAL_PREFIX) or arm == f"{LOCAL_PREFIX}{site.name}"
    }
    return tuple(site for site in run.about.sites if site.name in shown)


def metric_names(run: Run) -> tuple[str, ...]:
    """Metrics of the curves in file order."""
    return () if run.curves is None else tuple(run.curves["metric"].unique())


def _rows(run: Run, metric: str) -> pd.DataFrame:
    if run.curves is None:
        return pd.DataFrame(columns=["arm", "site", "round", "metric", "value"])
    return run.curves[run.curves["metric"] == metric]
