"""Groups of patients a number is stated for: one site, all federated sites, the unseen site."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from report.records import Run, Site

ALL_FEDERATED = "All federated patients"


@dataclass(frozen=True)
class Population:
    """A group of test patients.

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

    def rows(self, patients: pd.DataFrame) -> pd.DataFrame:
        """The rows of this population's patients."""
        return patients[patients["site"].isin(self.sites)]

    def count(self, patients: pd.DataFrame) -> int:
        """Number of patients."""
        return len(self.rows(patients)[["site", "subject"]].drop_duplicates())


def table_columns(run: Run, patients: pd.DataFrame) -> tuple[Population, ...]:
    """Each federated site, all federated patients together, each unseen site; none without rows."""
    federated, unseen = _with_patients(run, patients)
    columns = [Population(name, (name,), False, False) for name in federated]
    if federated:
        columns.append(Population(ALL_FEDERATED, federated, False, True))
    columns += [Population(f"Unseen: {name}", (name,), True, True) for name in unseen]
    return tuple(columns)


def tested_populations(run: Run, patients: pd.DataFrame) -> tuple[Population, ...]:
    """The groups hypotheses are tested on: the unseen site's patients, all federated patients."""
    federated, unseen = _with_patients(run, patients)
    groups = []
    if unseen:
        label = f"Unseen hospital{'s' if len(unseen) > 1 else ''} ({', '.join(unseen)})"
        groups.append(Population(label, unseen, True, True))
    if federated:
        groups.append(Population(ALL_FEDERATED, federated, False, True))
    return tuple(groups)


def _with_patients(run: Run, patients: pd.DataFrame) -> tuple[tuple[str, ...], tuple[str, ...]]:
    present = set(patients["site"])

    def names(sites: tuple[Site, ...]) -> tuple[str, ...]:
        return tuple(site.name for site in sites if site.name in present)

    return names(run.about.federated_sites), names(run.about.unseen_sites)
