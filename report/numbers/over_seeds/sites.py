"""What every arm gives single sites: their mean, the worst one, and who gains by joining.

Sites count alike here, however many patients they have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from report.numbers.over_seeds.crossed_t import CrossedT
from report.numbers.over_seeds.study import RunMeans, StudyAnalysis, compared
from report.numbers.rows import TableRow
from report.numbers.statistics import ALPHA, holm
from report.run.metrics import Metric

FEWEST_SITES = 2


@dataclass(frozen=True)
class ArmOverSites:
    """One arm at the federated sites.

    Attributes:
        row: the arm.
        mean: over sites, in every run.
        worst: the worst site's, in every run.
        spread: standard deviation (n - 1) over sites, in every run.
        worst_sites: site to the number of runs in which it was the worst, most often first; runs
            in which all sites are equal have none.
    """

    row: TableRow
    mean: RunMeans
    worst: RunMeans
    spread: RunMeans
    worst_sites: Mapping[str, int]


@dataclass(frozen=True)
class Joining:
    """What a site gets from a federation that it would not get alone.

    Attributes:
        row: the federated arm; for personal models the site's own one.
        site: the site.
        patients: number of the site's test patients.
        per_seed: seed to the mean difference over patients, the arm minus the site's own local-only
            model of the same seed.
        test: the crossed t of that difference, or None.
        why_not: why there is no test; empty where there is one.
        p_holm: the test's p, corrected for all sites of the arm.
        gains: whether the difference is a gain; None where it is not shown.
    """

    row: TableRow
    site: str
    patients: int
    per_seed: Mapping[int, float]
    test: CrossedT | None
    why_not: str
    p_holm: float | None = None
    gains: bool | None = None


@dataclass(frozen=True)
class SiteFairness:
    """All federated sites in the primary outcome's metric.

    Attributes:
        metric: of which metric.
        sites: names of the federated sites with test patients.
        arms: one for every row with numbers at every site.
        joining: for every federated arm and site; empty without local-only arms.
    """

    metric: Metric
    sites: tuple[str, ...]
    arms: tuple[ArmOverSites, ...]
    joining: tuple[Joining, ...]


def site_fairness(analysis: StudyAnalysis) -> SiteFairness | None:
    """Compare sites in the primary outcome's metric; None with one site or no known direction."""
    about = analysis.study.first.about
    name = analysis.study.about.primary.metric
    metric = next((found for found in about.metrics if found.name == name), None)
    values = analysis.patients[analysis.patients["metric"] == name]
    present = set(values["site"])
    sites = tuple(site.name for site in about.federated_sites if site.name in present)
    if metric is None or metric.higher_is_better is None or len(sites) < FEWEST_SITES:
        return None
    values = values[values["site"].isin(sites)]
    arms = (_over_sites(row, values, sites, metric) for row in analysis.rows)
    return SiteFairness(
        metric=metric,
        sites=sites,
        arms=tuple(arm for arm in arms if arm is not None),
        joining=tuple(_joining(analysis, values, sites, bool(metric.higher_is_better))),
    )


def _over_sites(
    row: TableRow, values: pd.DataFrame, sites: tuple[str, ...], metric: Metric
) -> ArmOverSites | None:
    own = values[values["row"] == row.name]
    means = own.groupby(["seed", "site"])["value"].agg(lambda run: run.mean(skipna=False))
    table = means.unstack("site").reindex(columns=list(sites))
    if table.empty or table.isna().any(axis=None):
        return None
    worst = table.min(axis=1) if metric.higher_is_better else table.max(axis=1)
    where = table.idxmin(axis=1) if metric.higher_is_better else table.idxmax(axis=1)
    spread = table.std(axis=1, ddof=1)
    return ArmOverSites(
        row=row,
        mean=_run_means(table.mean(axis=1)),
        worst=_run_means(worst),
        spread=_run_means(spread),
        worst_sites=dict(Counter(map(str, where[spread > 0])).most_common()),
    )


def _run_means(values: pd.Series) -> RunMeans:
    return RunMeans({int(seed): float(value) for seed, value in values.items()})


def _joining(
    analysis: StudyAnalysis, values: pd.DataFrame, sites: tuple[str, ...], higher: bool
) -> Iterator[Joining]:
    local = next((row for row in analysis.rows if row.kind == "local"), None)
    if local is None:
        return
    for row in analysis.rows:
        if row.is_federated:
            found = [
                joined
                for site in sites
                if (joined := _at_site(analysis, values, row, local, site)) is not None
            ]
            corrected = holm([item.test.p if item.test else 1.0 for item in found])
            for item, p in zip(found, corrected, strict=True):
                yield _judged(item, p, higher)


def _at_site(
    analysis: StudyAnalysis, values: pd.DataFrame, row: TableRow, local: TableRow, site: str
) -> Joining | None:
    here = values[values["site"] == site]
    found = compared(here, row, local, analysis.study.about.margin)
    if found is None:
        return None
    patients = int(here["subject"].nunique())
    return Joining(row, site, patients, found.per_seed, found.test, found.why_not)


def _judged(item: Joining, p: float, higher: bool) -> Joining:
    if item.test is None:
        return item
    gains = (item.test.mean > 0) == higher if p < ALPHA else None
    return replace(item, p_holm=p, gains=gains)
