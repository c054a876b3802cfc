"""What the numbers of sites alone allow: means over runs, and differences in each run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from report.numbers.over_seeds.study import RunMeans
from report.run.federated import FederatedStudy
from report.run.metrics import Metric

ALL = "all"
"""The column of the unweighted mean over the sites that have told of an arm in a run."""


@dataclass(frozen=True)
class SiteTable:
    """One metric of every arm at every site.

    Attributes:
        metric: the metric.
        columns: sites, and ``ALL`` behind them.
        patients: site to the numbers of patients that it has stated, smallest and largest.
        rows: arms that have a number.
        cells: (arm, column) to the means of its runs.
        within: (arm, site) to the standard deviation over patients, the mean over runs.
    """

    metric: Metric
    columns: tuple[str, ...]
    patients: Mapping[str, tuple[int, int]]
    rows: tuple[str, ...]
    cells: Mapping[tuple[str, str], RunMeans]
    within: Mapping[tuple[str, str], float]


def site_tables(study: FederatedStudy) -> list[SiteTable]:
    """A table for every metric that a site has told of, the primary outcome's first."""
    metrics = sorted(study.metrics, key=lambda metric: metric.name != study.primary)
    tables = [_table(study, metric) for metric in metrics]
    return [table for table in tables if table.rows]


def differences(study: FederatedStudy, table: SiteTable) -> dict[tuple[str, str], RunMeans]:
    """The reference minus every other arm, run by run, at every site and over all of them.

    Arms of one seed share their first weights and the order of slices. The difference of two means
    over the same patients is the mean of the patients' differences; how these are spread over
    patients is known at the sites alone.
    """
    found = {}
    for arm in table.rows:
        for column in table.columns:
            reference, other = (table.cells.get((one, column)) for one in (study.reference, arm))
            if arm == study.reference or reference is None or other is None:
                continue
            common = [seed for seed in reference.of_seed if seed in other.of_seed]
            if common:
                found[arm, column] = RunMeans(
                    {seed: reference.of_seed[seed] - other.of_seed[seed] for seed in common}
                )
    return found


def gaps(study: FederatedStudy) -> list[str]:
    """A sentence for every site that has told of no arm, and for every arm that a run lacks."""
    told = study.summaries[["arm", "seed", "site"]].drop_duplicates()
    sentences = []
    silent = [site for site in study.sites if site not in set(told["site"])]
    if silent:
        sentences.append(
            f"Nothing is told of test patients at {', '.join(silent)}: that site's own file shares "
            "nothing, or it has fewer test patients than it asks for."
        )
    for seed in study.seeds:
        found = set(told[told["seed"] == seed]["arm"])
        missing = [study.labels[arm] for arm in study.strategies if arm not in found]
        if missing:
            sentences.append(f"Seed {seed}: no number of {', '.join(missing)}.")
    return sentences


def _table(study: FederatedStudy, metric: Metric) -> SiteTable:
    of_metric = study.summaries[study.summaries["metric"] == metric.name]
    there = set(of_metric["arm"])
    rows = tuple(arm for arm in study.labels if arm in there)
    sites = tuple(site for site in study.sites if site in set(of_metric["site"]))
    cells: dict[tuple[str, str], RunMeans] = {}
    within: dict[tuple[str, str], float] = {}
    for arm in rows:
        of_arm = of_metric[of_metric["arm"] == arm]
        for site in sites:
            at_site = of_arm[of_arm["site"] == site]
            if not at_site.empty:
                cells[arm, site] = RunMeans(_per_seed(at_site))
                within[arm, site] = float(at_site["sd"].mean())
        whole = of_arm.groupby("seed").filter(lambda run: set(run["site"]) == set(sites))
        if not whole.empty:
            means = whole.groupby("seed")["mean"].mean()
            cells[arm, ALL] = RunMeans({int(str(s)): float(mean) for s, mean in means.items()})
    patients = {site: _range(of_metric[of_metric["site"] == site]) for site in sites}
    return SiteTable(metric, (*sites, ALL), patients, rows, cells, within)


def _per_seed(rows: pd.DataFrame) -> dict[int, float]:
    return {int(seed): float(mean) for seed, mean in zip(rows["seed"], rows["mean"], strict=True)}


def _range(rows: pd.DataFrame) -> tuple[int, int]:
    return int(rows["patients"].min()), int(rows["patients"].max())
