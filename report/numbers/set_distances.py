"""Distances of distributions as a table: rows as in Table 1, a column per group of patients.

They are one number per model and group of patients, so that no test over patients is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean, stdev

import pandas as pd

from fedi2i.site_names import ALL_SITES
from report.number_format import NONE, decimals_for, number
from report.numbers.results_table import DIVERGED
from report.numbers.rows import ALL_FEDERATED, TableRow
from report.run.distributions import KERNEL, TEXTURE
from report.run.records import Run, SetDistances, Site

LABELS = {
    KERNEL: "Kernel distance (KID by an extractor trained here)",
    TEXTURE: "Texture distance",
}
MEANING = (
    "Kernel distance: squared maximum mean discrepancy with the kernel (a·b / d + 1)³ (Binkowski "
    "et al., ICLR 2018, arXiv:1801.01401), over pairs of slices of different patients, of features "
    "of a small network trained on target slices of the training patients of this very data; it "
    "can be compared within this data only and is not the published KID. Texture distance: mean "
    "Wasserstein distance of four properties of grey-level co-occurrence (Haralick et al., 1973) "
    "in standard deviations of real training slices. Of both 0 is the best; the kernel distance "
    "may fall below 0 by chance. They describe and are not tested."
)
"""What a page says below the tables."""


@dataclass(frozen=True)
class GroupColumn:
    """A group of patients.

    Attributes:
        site: its site, or ``all``.
        label: as shown.
        patients: how many.
        slices: how many.
        headline: whether the summary's tables draw a line before it.
    """

    site: str
    label: str
    patients: int
    slices: int
    headline: bool


@dataclass(frozen=True)
class DistanceTable:
    """All distances of one measure.

    Attributes:
        measure: its name in the file.
        label: as shown.
        columns: the groups.
        rows: those of Table 1 that have a value.
        cells: (row name, column number) to its text.
    """

    measure: str
    label: str
    columns: tuple[GroupColumn, ...]
    rows: tuple[TableRow, ...]
    cells: Mapping[tuple[str, int], str]

    def text(self, row: TableRow, column: int) -> str:
        """What stands in a cell."""
        return self.cells.get((row.name, column), NONE)


def distance_tables(runs: Sequence[Run], rows: Sequence[TableRow]) -> tuple[DistanceTable, ...]:
    """A table per measure; none where a run has no distances, or extractors differ between runs.

    Args:
        runs: one, whose cells are value ± standard error over patients; or those of a study, whose
            cells are mean ± standard deviation between runs.
        rows: of Table 1.
    """
    found = [run.distributions for run in runs if run.distributions is not None]
    if len(found) < len(runs) or len({one.extractor for one in found}) != 1:
        return ()
    columns = _columns(runs[0], found[0].rows)
    return tuple(_table(measure, runs[0], found, rows, columns) for measure in LABELS)


def _columns(run: Run, rows: pd.DataFrame) -> tuple[GroupColumn, ...]:
    groups = [(site.name, site.name, False) for site in run.about.federated_sites]
    groups.append((ALL_SITES, ALL_FEDERATED, True))
    groups += [(site.name, f"Unseen: {site.name}", True) for site in run.about.unseen_sites]
    columns = []
    for name, label, headline in groups:
        of_group = rows[rows["site"] == name]
        if len(of_group):
            patients, slices = (int(of_group[key].iloc[0]) for key in ("patients", "slices"))
            columns.append(GroupColumn(name, label, patients, slices, headline))
    return tuple(columns)


def _table(
    measure: str,
    run: Run,
    found: Sequence[SetDistances],
    rows: Sequence[TableRow],
    columns: tuple[GroupColumn, ...],
) -> DistanceTable:
    values: dict[tuple[str, int], list[tuple[float, float]]] = {}
    sites = {site.name: site for site in run.about.sites}
    tables = [one.rows[one.rows["measure"] == measure].set_index(["arm", "site"]) for one in found]
    for row in rows:
        for place, column in enumerate(columns):
            names = _models(row, sites.get(column.site))
            of_runs = [_mean(table, names, column.site) for table in tables]
            known = [item for item in of_runs if item is not None]
            if len(known) == len(tables):
                values[row.name, place] = known
    sizes = [abs(value) for cell in values.values() for value, _ in cell if not isnan(value)]
    # The median: one outlier, such as the source, must not take a digit from all others.
    decimals = decimals_for(sorted(sizes)[len(sizes) // 2] if sizes else 1.0)
    return DistanceTable(
        measure,
        LABELS[measure],
        columns,
        tuple(row for row in rows if any((row.name, n) in values for n in range(len(columns)))),
        {place: _text(cell, decimals) for place, cell in values.items()},
    )


def _models(row: TableRow, site: Site | None) -> list[str]:
    """The models that stand for a row; of one model per site none stands for all sites."""
    if site is None:
        return [arm.name for arm in row.arms if arm.site is None]
    return [arm.name for arm in row.arms_at(site)]


def _mean(table: pd.DataFrame, names: Sequence[str], site: str) -> tuple[float, float] | None:
    """Value and standard error; the mean of values, without an error, over several models."""
    known = [table.loc[(name, site)] for name in names if (name, site) in table.index]
    if not known or len(known) < len(names):
        return None
    values = [float(one["value"]) for one in known]
    return fmean(values), float(known[0]["standard_error"]) if len(known) == 1 else float("nan")


def _text(of_runs: Sequence[tuple[float, float]], decimals: int) -> str:
    values = [value for value, _ in of_runs]
    if any(map(isnan, values)):
        return DIVERGED
    spread = stdev(values) if len(values) > 1 else of_runs[0][1]
    mean = number(fmean(values), decimals)
    return mean if isnan(spread) or spread == 0.0 else f"{mean} ± {number(spread, decimals)}"
