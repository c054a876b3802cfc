"""From arms to the rows of a table: the local models of all sites make one row, 'local only'."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from report.records import LOCAL_PREFIX, SOURCE, Arm, Run, Site

LOCAL_ONLY = "local-only"


@dataclass(frozen=True)
class Method:
    """One row of the results table.

    Attributes:
        name: the arm's name, or ``local-only``.
        label: as shown.
        kind: ``source``, ``local``, ``centralised`` or ``federated``.
        arms: the arms it is made of; one, except for ``local-only``.
    """

    name: str
    label: str
    kind: str
    arms: tuple[str, ...]

    def arms_at(self, site: Site) -> tuple[str, ...]:
        """The arms that stand for this method at a site.

        ``local-only`` is the site's own model at a federated site (none when it was not trained)
        and every local model at an unseen site.
        """
        if self.kind != "local" or site.unseen:
            return self.arms
        own = f"{LOCAL_PREFIX}{site.name}"
        return (own,) if own in self.arms else ()


def methods_of(run: Run) -> tuple[Method, ...]:
    """The rows in the order of ``run.json``; ``source`` first when only the results name it."""
    arms = run.about.arms
    rows: list[Method] = []
    if SOURCE not in {arm.name for arm in arms} and (run.test_rows["arm"] == SOURCE).any():
        rows.append(Method(SOURCE, "Source (input copied)", SOURCE, (SOURCE,)))
    local = tuple(arm.name for arm in arms if arm.kind == "local")
    for arm in arms:
        if arm.kind != "local":
            rows.append(Method(arm.name, arm.label, arm.kind, (arm.name,)))
        elif arm.name == local[0]:
            rows.append(Method(LOCAL_ONLY, "Local only", "local", local))
    return tuple(rows)


def federated_methods(methods: tuple[Method, ...]) -> tuple[Method, ...]:
    """The federated strategies among the methods."""
    return tuple(method for method in methods if method.kind == "federated")


def reference_method(methods: tuple[Method, ...]) -> Method | None:
    """``fedavg``, else the first federated method, else None: the one others are tested against."""
    federated = federated_methods(methods)
    named = [method for method in federated if method.name == "fedavg"]
    return next(iter(named or federated), None)


def patient_values(run: Run, methods: tuple[Method, ...]) -> pd.DataFrame:
    """One value per method, site, patient and metric of the test split.

    Where a method stands for several arms (``local-only`` at an unseen site), the value is the mean
    of the metric over these arms, patient by patient.

    Returns:
        Columns method, site, subject, metric, value.
    """
    test = run.test_rows
    parts = []
    for method in methods:
        for site in run.about.sites:
            chosen = (test["site"] == site.name) & test["arm"].isin(method.arms_at(site))
            means = test[chosen].groupby(["subject", "metric"], sort=False)["value"].mean()
            parts.append(means.reset_index().assign(method=method.name, site=site.name))
    return pd.concat(parts, ignore_index=True)[["method", "site", "subject", "metric", "value"]]


def largest_site(run: Run) -> Site | None:
    """The federated site with a local model and most training patients; the first one of a tie."""
    names = {arm.name for arm in run.about.arms}
    sites = [s for s in run.about.federated_sites if f"{LOCAL_PREFIX}{s.name}" in names]
    return max(sites, key=lambda site: site.train, default=None)


def arm_named(run: Run, name: str) -> Arm | None:
    """The arm record of that name."""
    return next((arm for arm in run.about.arms if arm.name == name), None)
