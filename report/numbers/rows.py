"""The rows and columns of every table: models as table rows, groups of patients as columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from report.run.records import (
    CENTRALISED,
    ENSEMBLE,
    REGRESSION,
    SOURCE,
    UNTRAINED,
    Arm,
    Run,
    Site,
)

FEW_ARMS = 4
"""Up to this many federated rows are all shown everywhere; of more, figures show a choice."""
ALL_FEDERATED = "All federated patients"

_GROUPS = (
    ("Baselines", (*UNTRAINED, "local", ENSEMBLE, CENTRALISED, REGRESSION)),
    ("Federated, one global model", ("federated",)),
    ("Federated, a personal model per site", ("personal",)),
)


@dataclass(frozen=True)
class TableRow:
    """One row of the results table: an arm, or the models of a family, one per site.

    Attributes:
        name: the arm's name, or that of the family.
        label: as shown.
        kind: see ``Arm.kind``.
        arms: the models it is made of: one, or one per site.
        diverged: whether a test value of one of its models is no number. Such a row is shown, and
            neither ranked nor tested.
    """

    name: str
    label: str
    kind: str
    arms: tuple[Arm, ...]
    diverged: bool = False

    @property
    def is_federated(self) -> bool:
        """True for every strategy, whether it ends in one global or in personal models."""
        return self.kind in ("federated", "personal")

    @property
    def is_trained(self) -> bool:
        """False for what needs no network: source, mapped source, constant and mean target."""
        return self.kind not in UNTRAINED

    def arms_at(self, site: Site) -> tuple[Arm, ...]:
        """The models that stand for this row at a site.

        Of one model per site this is the site's own at a federated site (none when it was not
        trained) and every one of them at an unseen site.
        """
        return tuple(arm for arm in self.arms if site.unseen or arm.site in (None, site.name))


@dataclass(frozen=True)
class Population:
    """A group of test patients: one site, all federated sites, or the unseen sites.

    Attributes:
        label: as shown.
        sites: names of the sites whose patients belong to it.
        unseen: True when its sites took part in no training.
        headline: True when the summary quotes it.
    """

    label: str
    sites: tuple[str, ...]
    unseen: bool
    headline: bool

    def values_in(self, patients: pd.DataFrame) -> pd.DataFrame:
        """The values of this population's patients."""
        return patients[patients["site"].isin(self.sites)]

    def count(self, patients: pd.DataFrame) -> int:
        """Number of patients."""
        return len(self.values_in(patients)[["site", "subject"]].drop_duplicates())


def table_rows(run: Run) -> tuple[TableRow, ...]:
    """The rows in groups: baselines, global federated, personal federated.

    Inside a group the order is that of ``run.json``; ``source`` has a row also when only the
    results name it.
    """
    members: dict[str, list[Arm]] = {}
    if (run.test_rows["arm"] == SOURCE).any():
        members[SOURCE] = [Arm(SOURCE, "Source (input copied)", None, None, None, None, "")]
    for arm in run.about.arms:
        if arm.family is None:
            members[arm.name] = [arm]
        else:
            members.setdefault(arm.family, []).append(arm)
    rows = [
        TableRow(
            name=name,
            label=arms[0].family_label or arms[0].label,
            kind=arms[0].kind,
            arms=tuple(arms),
            diverged=any(arm.name in run.diverged for arm in arms),
        )
        for name, arms in members.items()
    ]
    order = [kind for _, kinds in _GROUPS for kind in kinds]
    return tuple(sorted(rows, key=lambda row: order.index(row.kind)))


def row_groups(rows: Iterable[TableRow]) -> list[tuple[str, list[TableRow]]]:
    """The rows under the headings that tables give them; headings without rows are left out.

    Global and personal strategies have headings of their own because they are not to be ranked
    against each other: a personal model needs training data of the site that uses it.
    """
    rows = list(rows)
    groups = [(title, [row for row in rows if row.kind in kinds]) for title, kinds in _GROUPS]
    return [(title, members) for title, members in groups if members]


def need_headings(rows: Iterable[TableRow]) -> bool:
    """Whether a table is long or mixed enough for headings between its groups."""
    rows = list(rows)
    return bool(personal_rows(rows)) or not are_few(rows)


def global_rows(rows: Iterable[TableRow]) -> tuple[TableRow, ...]:
    """The federated strategies with one global model."""
    return tuple(row for row in rows if row.kind == "federated")


def personal_rows(rows: Iterable[TableRow]) -> tuple[TableRow, ...]:
    """The federated strategies with a personal model per site."""
    return tuple(row for row in rows if row.kind == "personal")


def converged_rows(rows: Iterable[TableRow]) -> tuple[TableRow, ...]:
    """The rows whose every test value is a number."""
    return tuple(row for row in rows if not row.diverged)


def are_few(rows: Iterable[TableRow]) -> bool:
    """Whether there are so few federated rows that figures and sentences can name them all."""
    return sum(row.is_federated for row in rows) <= FEW_ARMS


def reference_row(rows: Iterable[TableRow]) -> TableRow | None:
    """The row that others are compared with.

    It is the federated row that ``run.json`` marks, else the first one listed, global strategies
    before personal ones; a diverged row cannot be the reference. None without any.
    """
    rows = converged_rows(rows)
    federated = (*global_rows(rows), *personal_rows(rows))
    marked = [row for row in federated if row.arms[0].reference]
    return next(iter(marked or federated), None)


def patient_values(run: Run, rows: Sequence[TableRow]) -> pd.DataFrame:
    """One value per table row, site, patient and metric of the test split.

    Where a row stands for several arms (one model per site, at an unseen site), the value is the
    mean of the metric over these arms, patient by patient; NaN where one of them is.

    Returns:
        Columns row, site, subject, metric, value.
    """
    test = run.test_rows
    parts = []
    for row in rows:
        for site in run.about.sites:
            names = [arm.name for arm in row.arms_at(site)]
            chosen = test[(test["site"] == site.name) & test["arm"].isin(names)]
            means = chosen.groupby(["subject", "metric"], sort=False)["value"].mean(skipna=False)
            parts.append(means.reset_index().assign(row=row.name, site=site.name))
    return pd.concat(parts, ignore_index=True)[["row", "site", "subject", "metric", "value"]]


def table_columns(run: Run, patients: pd.DataFrame) -> tuple[Population, ...]:
    """Each federated site, all federated patients together, each unseen site; none without rows."""
    federated, unseen = _sites_with(run, patients)
    columns = [Population(name, (name,), False, False) for name in federated]
    if federated:
        columns.append(Population(ALL_FEDERATED, federated, False, True))
    columns += [Population(f"Unseen: {name}", (name,), True, True) for name in unseen]
    return tuple(columns)


def tested_populations(run: Run, patients: pd.DataFrame) -> tuple[Population, ...]:
    """The groups hypotheses are tested on: the unseen site's patients, all federated patients."""
    federated, unseen = _sites_with(run, patients)
    groups = []
    if unseen:
        label = f"Unseen site{'s' if len(unseen) > 1 else ''} ({', '.join(unseen)})"
        groups.append(Population(label, unseen, True, True))
    if federated:
        groups.append(Population(ALL_FEDERATED, federated, False, True))
    return tuple(groups)


def _sites_with(run: Run, patients: pd.DataFrame) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the federated and of the unseen sites that have patients."""
    present = set(patients["site"])

    def names(sites: tuple[Site, ...]) -> tuple[str, ...]:
        return tuple(site.name for site in sites if site.name in present)

    return names(run.about.federated_sites), names(run.about.unseen_sites)
