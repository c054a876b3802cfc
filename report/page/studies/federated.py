"""The page of a study that ran in a federation: what sites have told, and what stays with them."""

from __future__ import annotations

from report.number_format import counted, decimals_for, listed, number
from report.numbers.over_seeds.federated import ALL, SiteTable, differences, gaps, site_tables
from report.numbers.over_seeds.study import RunMeans
from report.page.provenance import flattened
from report.page.render import environment
from report.run.federated import FederatedStudy

STAYS = (
    "rows of single patients, and every test over patients: the crossed t, who is equivalent, and "
    "ranks",
    "pictures, reader studies, and the error inside single patients",
    "mean targets, constants and sources as predictions, which are made of a site's own patients",
    "whether the images are acquired or computed: each site's own page says it",
)
"""What no site sends, whatever a study's file asks for."""


def render_federated(study: FederatedStudy) -> str:
    """The whole page as text; it refers to no other file or address.

    Raises:
        DataError: the study's files contradict each other.
    """
    tables = site_tables(study)
    leading = tables[0] if tables and tables[0].metric.name == study.primary else None
    found = differences(study, leading) if leading else {}
    return (
        environment()
        .get_template("federated.html")
        .render(
            study=study,
            summary=federated_summary(study),
            gaps=gaps(study),
            leading=leading,
            others=[table for table in tables if table is not leading],
            compared=[arm for arm in (leading.rows if leading else ()) if (arm, ALL) in found],
            cell=_cell,
            difference=lambda table, arm, column: _text(table, found.get((arm, column))),
            column=lambda name: "mean over sites" if name == ALL else name,
            patients=_patients,
            stays=STAYS,
            settings=flattened({k: v for k, v in study.experiment.items() if k != "seed"}),
        )
    )


def federated_summary(study: FederatedStudy) -> list[str]:
    """The paragraphs on top: what was run and told; nothing is claimed of methods."""
    seeds = [str(seed) for seed in study.seeds]
    sites = sorted(set(study.summaries["site"]))
    labels = {metric.name: metric for metric in study.metrics}
    primary = labels.get(study.primary)
    shown = primary.label if primary else study.primary
    return [
        f"{counted(len(study.strategies), 'federated arm')} ran in a running federation with "
        f"{counted(len(seeds), 'seed')} ({listed(seeds)}); {listed(sites)} told number, mean "
        "and standard deviation of their test patients. The primary outcome, named before the "
        f"first job: {shown}.",
        "These are values and not tests. A difference is given run by run; whether it holds for "
        "other patients can be tested at each site alone, whose own page does so.",
    ]


def _cell(table: SiteTable, arm: str, column: str) -> str:
    return _text(table, table.cells.get((arm, column)))


def _text(table: SiteTable, means: RunMeans | None) -> str:
    if means is None:
        return number(None, 0)
    largest = max(abs(cell.mean) for cell in table.cells.values())
    given = table.metric.decimals
    decimals = decimals_for(largest) if given is None else given
    spread = f" ± {number(means.spread, decimals)}" if means.spread is not None else ""
    return f"{number(means.mean, decimals)}{spread}"


def _patients(table: SiteTable, column: str) -> str:
    """``12 patients``, ``10 to 12 patients``, or "" of the mean over sites."""
    low, high = table.patients.get(column, (0, 0))
    if not high:
        return ""
    return counted(high, "patient") if low == high else f"{low} to {high} patients"
