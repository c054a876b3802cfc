"""The one-paragraph summary; every statement follows from the numbers of the run."""

from __future__ import annotations

from collections.abc import Sequence

from report.metrics import PSNR
from report.number_format import counted, listed, number, p_value
from report.populations import Population
from report.records import Run
from report.results_table import MetricTable
from report.statistics import ALPHA, Comparison, PairedTests


def summary(run: Run, tables: Sequence[MetricTable], families: Sequence[PairedTests]) -> str:
    """Compose the paragraph.

    Args:
        run: the run, for its sites.
        tables: the metric tables; the one of PSNR is quoted.
        families: the paired tests; those of PSNR are quoted.
    """
    table = next(table for table in tables if table.metric == PSNR)
    sentences = [_who(run, table)]
    for column, population in enumerate(table.columns):
        if population.headline:
            sentences.append(_means(table, column, population))
            sentences += [
                _tests(family)
                for family in families
                if family.metric == PSNR
                and family.population.sites == population.sites
                and family.comparisons
            ]
    return " ".join(sentence for sentence in sentences if sentence)


def _who(run: Run, table: MetricTable) -> str:
    federated = [site.name for site in run.about.federated_sites]
    text = (
        f"{counted(len(federated), 'hospital').capitalize()} took part in training"
        f"{f' ({listed(federated)})' if federated else ''}"
    )
    groups = [
        f"{counted(count, 'test patient')} of "
        + (f"the unseen hospital {population.sites[0]}" if population.unseen else "these hospitals")
        for population, count in zip(table.columns, table.counts, strict=True)
        if population.headline
    ]
    kind = "computed images" if run.about.computed else "images"
    return f"{text}; the models were evaluated on the {kind} of {listed(groups)}."


def _means(table: MetricTable, column: int, population: Population) -> str:
    parts = {
        method: f"{method.label} {number(table.cells[method.name, column].mean, table.decimals)}"
        for method in table.methods
        if (method.name, column) in table.cells
    }
    federated = [text for method, text in parts.items() if method.kind == "federated"]
    others = [text for method, text in parts.items() if method.kind != "federated"]
    if not federated:
        return f"{_place(population)} mean PSNR in dB is {listed(others)} (Table 1a)."
    text = f"{_place(population)} mean PSNR in dB is {listed(federated)}"
    text += f", beside {listed(others)}" if others else ""
    return f"{text} (Table 1a{_best(table, column)})."


def _best(table: MetricTable, column: int) -> str:
    best = [m.label for m in table.methods if (m.name, column) in table.best]
    if not best:
        return ""
    if len(best) > 1:
        return f"; equal highest federated mean: {listed(best)}"
    return f"; highest federated mean: {best[0]}"


def _place(population: Population) -> str:
    if population.unseen:
        return f"At the unseen hospital {population.sites[0]}"
    return "Over all patients of the federated hospitals"


def _tests(family: PairedTests) -> str:
    """What the paired tests of one population say, in words the p-values allow."""
    name = family.reference.label
    if family.smallest_p_holm >= ALPHA:
        medians = [
            f"{number(item.median_difference, 2, signed=True)} dB from {item.other.label}"
            for item in family.comparisons
        ]
        return (
            f"Per patient, {name} differs by a median of {listed(medians)}; with "
            f"{counted(family.n, 'patient')} no corrected p-value of these "
            f"{len(family.comparisons)} comparisons can fall below "
            f"{number(family.smallest_p_holm, 3)}, so none can be called significant (Table 3)."
        )
    shown = [item for item in family.comparisons if item.significant]
    open_ = [item.other.label for item in family.comparisons if not item.significant]
    parts = []
    for word, sign in (("better", 1), ("worse", -1)):
        chosen = [item for item in shown if item.median_difference * sign > 0]
        if chosen:
            against = [_against(item) for item in chosen]
            parts.append(f"is {word} than {listed(against)}")
    level = [item.other.label for item in shown if item.median_difference == 0]
    if level:
        parts.append(f"differs from {listed(level)} with a median difference of 0")
    if open_:
        parts.append(f"shows no significant difference from {listed(open_)}")
    return (
        f"Per patient (n = {family.n}), {name} {listed(parts)} "
        "(medians of paired differences, Holm-corrected p, Table 3)."
    )


def _against(item: Comparison) -> str:
    p = p_value(item.p_holm)
    p = p if p.startswith("<") else f"= {p}"
    return f"{item.other.label} by {number(abs(item.median_difference), 2)} dB (p {p})"
