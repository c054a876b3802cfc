"""From arms to the rows of a table: the models of a family, one per site, make one row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from report.records import CENTRALISED, SOURCE, Arm, Run, Site

FEW_ARMS = 4
"""Up to this many federated methods are all shown everywhere; of more, figures show a choice."""

_GROUPS = (
    ("No federation", (SOURCE, "local", CENTRALISED)),
    ("Federated, one global model", ("federated",)),
    ("Federated, a personal model per hospital", ("personal",)),
)


@dataclass(frozen=True)
class Method:
    """One row of the results table.

    Attributes:
        name: the arm's name, or that of the family.
        label: as shown.
        kind: ``source``, ``local``, ``centralised``, ``federated`` or ``personal``.
        arms: the models it is made of: one, or one per site.
    """

    name: str
    label: str
    kind: str
    arms: tuple[Arm, ...]

    @property
    def is_federated(self) -> bool:
        """True for every strategy, whether it ends in one global or in personal models."""
        return self.kind in ("federated", "personal")

    def arms_at(self, site: Site) -> tuple[Arm, ...]:
        """The models that stand for this method at a site.

        Of one model per site this is the site's own at a federated site (none when it was not
        trained) and every one of them at an unseen site.
        """
        return tuple(arm for arm in self.arms if site.unseen or arm.site in (None, site.name))


def methods_of(run: Run) -> tuple[Method, ...]:
    """The rows in groups: source, local only, centralised, global federated, personal federated.

    Inside a group the order is that of ``run.json``; ``source`` has a row also when only the
    results name it.
    """
    rows: dict[str, Method] = {}
    if (run.test_rows["arm"] == SOURCE).any():
        copied = Arm(SOURCE, "Source (input copied)", None, None, None, None, "")
        rows[SOURCE] = Method(SOURCE, copied.label, SOURCE, (copied,))
    for arm in run.about.arms:
        name, label = arm.family or arm.name, arm.family_label or arm.label
        before = rows[name].arms if arm.family and name in rows else ()
        rows[name] = Method(name, label, arm.kind, (*before, arm))
    order = [kind for _, kinds in _GROUPS for kind in kinds]
    return tuple(sorted(rows.values(), key=lambda method: order.index(method.kind)))


def method_groups(methods: Iterable[Method]) -> list[tuple[str, list[Method]]]:
    """The methods under the headings that tables give them; headings without methods are left out.

    Global and personal strategies have headings of their own because they are not to be ranked
    against each other: a personal model needs training data of the hospital that uses it.
    """
    methods = list(methods)
    groups = [(title, [m for m in methods if m.kind in kinds]) for title, kinds in _GROUPS]
    return [(title, members) for title, members in groups if members]


def need_headings(methods: Iterable[Method]) -> bool:
    """Whether a table is long or mixed enough for headings between its groups."""
    methods = list(methods)
    return bool(personal_methods(methods)) or not are_few(methods)


def federated_methods(methods: Iterable[Method]) -> tuple[Method, ...]:
    """The federated strategies with one global model."""
    return tuple(method for method in methods if method.kind == "federated")


def personal_methods(methods: Iterable[Method]) -> tuple[Method, ...]:
    """The federated strategies with a personal model per site."""
    return tuple(method for method in methods if method.kind == "personal")


def are_few(methods: Iterable[Method]) -> bool:
    """Whether there are so few federated methods that figures and sentences can name them all."""
    return sum(method.is_federated for method in methods) <= FEW_ARMS


def reference_method(methods: Iterable[Method]) -> Method | None:
    """The method others are tested against: ``fedavg``, else the first federated one, else None."""
    methods = list(methods)
    federated = (*federated_methods(methods), *personal_methods(methods))
    named = [method for method in federated if method.name == "fedavg"]
    return next(iter(named or federated), None)


def patient_values(run: Run, methods: Sequence[Method]) -> pd.DataFrame:
    """One value per method, site, patient and metric of the test split.

    Where a method stands for several arms (one model per site, at an unseen site), the value is the
    mean of the metric over these arms, patient by patient.

    Returns:
        Columns method, site, subject, metric, value.
    """
    test = run.test_rows
    parts = []
    for method in methods:
        for site in run.about.sites:
            names = [arm.name for arm in method.arms_at(site)]
            chosen = (test["site"] == site.name) & test["arm"].isin(names)
            means = test[chosen].groupby(["subject", "metric"], sort=False)["value"].mean()
            parts.append(means.reset_index().assign(method=method.name, site=site.name))
    return pd.concat(parts, ignore_index=True)[["method", "site", "subject", "metric", "value"]]


def pictured_arm(run: Run, method: Method, site: Site) -> Arm | None:
    """The one model whose pictures stand for a method at a site.

    Of one model per site this is the site's own; at an unseen site that of the site with most
    training patients (the first one of a tie).
    """
    patients = {other.name: other.train for other in run.about.sites}
    return max(method.arms_at(site), key=lambda arm: patients.get(arm.site or "", 0), default=None)
