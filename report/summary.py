"""The summary on top of the page; every statement follows from the numbers of the run."""

from __future__ import annotations

from collections.abc import Sequence

from report.analysis import Analysis
from report.diagnostics import Verdict
from report.methods import FEW_ARMS, Method, are_few, federated_methods
from report.metrics import PSNR
from report.number_format import counted, listed, number
from report.populations import Population
from report.records import Run
from report.results_table import MetricTable
from report.strategy_verdicts import named, nothing
from report.tests_in_words import tests_sentence


def summary(analysis: Analysis) -> tuple[str, ...]:
    """Compose the paragraphs from the PSNR table, its paired tests and the strategies' verdicts."""
    table = next(table for table in analysis.tables if table.metric == PSNR)
    paragraphs = [_who(analysis.run, table)]
    for column, population in enumerate(table.columns):
        if population.headline:
            tested = [
                tests_sentence(family)
                for family in analysis.tests
                if family.metric == PSNR
                and family.population.sites == population.sites
                and family.comparisons
            ]
            paragraphs.append(" ".join([_means(table, column, population), *tested]))
    idle = named(analysis.actions.jobs, Verdict.NOTHING)
    if idle:
        paragraphs.append(f"{nothing(idle).removesuffix('.')} (Table 4).")
    return tuple(paragraphs)


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
    shown = [method for method in table.methods if (method.name, column) in table.cells]
    by_kind = {
        kind: [method for method in shown if method.kind == kind]
        for kind in ("federated", "personal")
    }
    others = [_mean(table, column, m) for m in shown if not m.is_federated]
    few = are_few(table.methods)
    parts = []
    if by_kind["federated"]:
        parts.append(_global_means(table, column, by_kind["federated"], few))
    if by_kind["personal"]:
        parts.append(_personal_means(table, column, by_kind["personal"], few))
    if not parts:
        return f"{_place(population)} mean PSNR in dB is {listed(others)} (Table 1a)."
    text = f"{_place(population)} mean PSNR in dB is {'; '.join(parts)}"
    text += f"{';' if len(parts) > 1 else ','} beside {listed(others)}" if others else ""
    return f"{text} (Table 1a{_best(table, column) if few else ''})."


def _global_means(table: MetricTable, column: int, methods: Sequence[Method], few: bool) -> str:
    if few or len(methods) <= FEW_ARMS:
        return listed([_mean(table, column, method) for method in methods])
    reference = next((m for m in methods if m.name == "fedavg"), methods[0])
    ordered = _by_mean(table, column, methods)
    best, worst = (_mean(table, column, method) for method in (ordered[0], ordered[-1]))
    return (
        f"{_mean(table, column, reference)}, of {len(methods)} global strategies the highest is "
        f"{best}, the lowest {worst}"
    )


def _personal_means(table: MetricTable, column: int, methods: Sequence[Method], few: bool) -> str:
    means = "means over all personal models" if table.columns[column].unseen else "personal models"
    if few or len(methods) <= FEW_ARMS:
        return f"{means}: {listed([_mean(table, column, method) for method in methods])}"
    best = _by_mean(table, column, methods)[0]
    return f"{means}: highest of {len(methods)} is {_mean(table, column, best)}"


def _by_mean(table: MetricTable, column: int, methods: Sequence[Method]) -> list[Method]:
    """Highest mean first; PSNR is better when higher."""
    return sorted(methods, key=lambda method: -table.cells[method.name, column].mean)


def _mean(table: MetricTable, column: int, method: Method) -> str:
    return f"{method.label} {number(table.cells[method.name, column].mean, table.decimals)}"


def _best(table: MetricTable, column: int) -> str:
    ranked = federated_methods(table.methods)
    best = [method.label for method in ranked if (method.name, column) in table.best]
    if not best:
        return ""
    if len(best) > 1:
        return f"; equal highest federated mean: {listed(best)}"
    return f"; highest federated mean: {best[0]}"


def _place(population: Population) -> str:
    if population.unseen:
        return f"At the unseen hospital {population.sites[0]}"
    return "Over all patients of the federated hospitals"
