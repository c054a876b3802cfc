"""The summary on top of the page; every statement follows from the numbers of the run."""

from __future__ import annotations

from collections.abc import Sequence

from report.number_format import counted, decimals_for, listed, number, p_value
from report.numbers.analysis import Analysis
from report.numbers.featured import psnr_table
from report.numbers.learnt import Learnt, unlearnt_metrics
from report.numbers.metrics import PSNR
from report.numbers.results_table import MetricTable
from report.numbers.rows import (
    FEW_ARMS,
    Population,
    TableRow,
    are_few,
    converged_rows,
    global_rows,
    personal_rows,
    reference_row,
)
from report.numbers.statistics import ALPHA, Comparison, PairedTests
from report.numbers.strategy_effects import Verdict
from report.page.strategies import changed_nothing
from report.run.metrics import Metric
from report.run.records import Run

ONE_RUN = (
    "Every arm was trained once: p-values hold for these trained models and not for the methods, "
    "as a second run of one method with another seed differs from the first in the same way."
)
MOST_NAMED = 2 * FEW_ARMS
"""Longer lists of rows are counted, not named; Table 3 has them."""


def summary(analysis: Analysis) -> tuple[str, ...]:
    """Compose the paragraphs from the PSNR table, the primary tests and the verdicts."""
    table = psnr_table(analysis.tables)
    paragraphs = [_data(analysis.run, table)]
    for column, population in enumerate(table.columns):
        if population.headline:
            tested = [
                tests_sentence(tests)
                for tests in analysis.tests
                if tests.metric.name == analysis.run.about.primary.metric
                and tests.population.sites == population.sites
                and tests.comparisons
            ]
            paragraphs.append(" ".join([_means(table, column, population), *tested]))
    paragraphs.append(" ".join(learnt_sentences(analysis)))
    if any(tests.comparisons for tests in analysis.tests):
        paragraphs.append(f"{primary_sentence(analysis.run)} {ONE_RUN}")
    idle = analysis.effects.labels(Verdict.NOTHING)
    if idle:
        paragraphs.append(f"{changed_nothing(idle).removesuffix('.')} (Table 4).")
    return (*paragraphs, *divergence_sentences(analysis.rows))


def primary_sentence(run: Run) -> str:
    """Which outcome the run was made for."""
    primary = run.about.primary
    label = next(m.label for m in run.about.metrics if m.name == primary.metric)
    whose = "the unseen site" if primary.unseen else "the federated sites"
    return (
        f"The primary outcome is {label} over the test patients of {whose}; all other metrics and "
        "groups of patients are secondary."
    )


def learnt_sentences(analysis: Analysis) -> list[str]:
    """Which models may be said to have learnt, for every headline population."""
    if not analysis.learnt:
        return [
            "The run holds neither a constant nor a mean target, so this report cannot say whether "
            "a model has learnt."
        ]
    return [
        *(_learnt(item, analysis) for item in analysis.learnt),
        *(
            _nothing_learnt(table, item)
            for table, item in unlearnt_metrics(analysis.tables)
            if table.metric.name != PSNR
        ),
    ]


def unlearnt_warnings(analysis: Analysis) -> list[str]:
    """The same, only where a model is not above what needs no network."""
    return [_learnt(item, analysis) for item in analysis.learnt if item.not_above]


def _learnt(item: Learnt, analysis: Analysis) -> str:
    return learnt_sentence(item, psnr_table(analysis.tables).decimals)


def learnt_sentence(item: Learnt, decimals: int, by: str = "") -> str:
    """Which trained arms are above what needs no network, by PSNR in dB.

    Args:
        item: the arms beside the better of constant and mean target.
        decimals: digits after the point.
        by: what their means are over besides patients, as `` in the mean over runs``.
    """
    text = (
        f"{_place(item.population)} the best prediction that looks at no patient is "
        f"'{item.floor.label}' with {number(item.level, decimals)} dB"
    )
    if not item.not_above:
        return f"{text}; every trained arm is above it{by} and so has learnt."
    below = [row.label for row in item.not_above]
    named = listed(below) if len(below) <= MOST_NAMED else f"{len(below)} arms"
    verb = "is" if len(below) == 1 else "are"
    return f"{text}; {named} {verb} not above it{by} and cannot be said to have learnt."


def _nothing_learnt(table: MetricTable, item: Learnt) -> str:
    """A metric by which a prediction that looks at no patient is as good as every model."""
    unit = f" {table.metric.unit}" if table.metric.unit else ""
    return (
        f"{_place(item.population)} no trained arm has a better mean {_spoken(table.metric)} "
        f"than '{item.floor.label}' ({number(item.level, table.decimals)}{unit}): by this metric "
        "nothing is shown to be learnt there."
    )


def _spoken(metric: Metric) -> str:
    """Its label without what stands in brackets behind it."""
    return metric.label.partition(" (")[0]


def divergence_sentences(rows: Sequence[TableRow]) -> list[str]:
    """Which rows diverged, and what takes their place as reference; nothing where none did."""
    diverged = [row for row in rows if row.diverged]
    if not diverged:
        return []
    labels = listed([row.label for row in diverged])
    text = (
        f"{labels} diverged: at least one test value is not a number. Diverged rows are left out "
        "of rankings and paired tests."
    )
    marked = [row for row in diverged if row.arms[0].reference]
    reference = reference_row(rows)
    if marked and reference is not None:
        text += f" {reference.label} is the reference instead of {marked[0].label}."
    return [text]


def tests_sentence(tests: PairedTests) -> str:
    """What the paired tests of one population say, in words that their p-values allow."""
    if tests.smallest_p_holm >= ALPHA:
        return _too_few_patients(tests)
    name = tests.reference.label
    what = "" if tests.metric.name == PSNR else f" by {tests.metric.label}"
    shown = [item for item in tests.comparisons if item.significant]
    open_ = [item.other.label for item in tests.comparisons if not item.significant]
    parts = []
    gain = -1 if tests.metric.higher_is_better is False else 1
    for word, sign in (("better", gain), ("worse", -gain)):
        chosen = [item for item in shown if item.median_difference * sign > 0]
        if chosen:
            parts.append(f"is {word} than {_against(chosen, tests.metric)}")
    level = [item.other.label for item in shown if item.median_difference == 0]
    if level:
        parts.append(f"differs from {listed(level)} with a median difference of 0")
    if open_:
        others = listed(open_) if len(open_) <= MOST_NAMED else f"{len(open_)} other arms"
        parts.append(f"shows no significant difference from {others}")
    return (
        f"Per patient (n = {tests.n}){what}, {name} {listed(parts)} "
        "(medians of paired differences, Holm-corrected p, Table 3)."
    )


def _too_few_patients(tests: PairedTests) -> str:
    items = tests.comparisons
    name = tests.reference.label
    if len(items) <= MOST_NAMED:
        medians = listed([_from(item, tests.metric) for item in items])
        differs = f"differs by a median of {medians}"
    else:
        ordered = sorted(items, key=lambda item: item.median_difference)
        lowest, highest = (_from(item, tests.metric) for item in (ordered[0], ordered[-1]))
        differs = f"differs by medians between {lowest} and {highest}"
    return (
        f"Per patient, {name} {differs}; with {counted(tests.n, 'patient')} no corrected p-value "
        f"of these {len(items)} comparisons can fall below {number(tests.smallest_p_holm, 3)}, so "
        "none can be called significant (Table 3)."
    )


def _from(item: Comparison, metric: Metric) -> str:
    return f"{_difference(item.median_difference, metric, signed=True)} from {item.other.label}"


def _against(items: Sequence[Comparison], metric: Metric) -> str:
    if len(items) > MOST_NAMED:
        return f"{len(items)} arms"
    if len(items) > FEW_ARMS:
        return listed([item.other.label for item in items])
    return listed([_by(item, metric) for item in items])


def _by(item: Comparison, metric: Metric) -> str:
    p = p_value(item.p_holm)
    p = p if p.startswith("<") else f"= {p}"
    size = _difference(abs(item.median_difference), metric, signed=False)
    return f"{item.other.label} by {size} (p {p})"


def _difference(value: float, metric: Metric, signed: bool) -> str:
    decimals = decimals_for(value) if metric.decimals is None else metric.decimals
    return number(value, decimals, signed=signed) + (f" {metric.unit}" if metric.unit else "")


def _data(run: Run, table: MetricTable) -> str:
    """How many sites took part, and whose patients the models were evaluated on."""
    federated = [site.name for site in run.about.federated_sites]
    text = (
        f"{counted(len(federated), 'site').capitalize()} took part in training"
        f"{f' ({listed(federated)})' if federated else ''}"
    )
    groups = [
        f"{counted(count, 'test patient')} of "
        + (f"the unseen site {population.sites[0]}" if population.unseen else "these sites")
        for population, count in zip(table.columns, table.counts, strict=True)
        if population.headline
    ]
    kind = "computed images" if run.about.computed else "images"
    return f"{text}; the models were evaluated on the {kind} of {listed(groups)}."


def _means(table: MetricTable, column: int, population: Population) -> str:
    place = _place(population)
    shown = [row for row in converged_rows(table.rows) if (row.name, column) in table.cells]
    if not shown:
        return f"{place} no model gave numbers only, so there is no mean PSNR (Table 1a)."
    others = [_mean(table, column, row) for row in shown if not row.is_federated]
    few = are_few(table.rows)
    parts = []
    if global_rows(shown):
        parts.append(_global_means(table, column, global_rows(shown), few))
    if personal_rows(shown):
        parts.append(_personal_means(table, column, personal_rows(shown), few))
    if not parts:
        return f"{place} mean PSNR in dB is {listed(others)} (Table 1a)."
    text = f"{place} mean PSNR in dB is {'; '.join(parts)}"
    text += f"{';' if len(parts) > 1 else ','} beside {listed(others)}" if others else ""
    return f"{text} (Table 1a{_best(table, column) if few else ''})."


def _global_means(table: MetricTable, column: int, rows: Sequence[TableRow], few: bool) -> str:
    if few or len(rows) <= FEW_ARMS:
        return listed([_mean(table, column, row) for row in rows])
    reference = reference_row(rows) or rows[0]
    ordered = _by_mean(table, column, rows)
    best, worst = (_mean(table, column, row) for row in (ordered[0], ordered[-1]))
    return (
        f"{_mean(table, column, reference)}, of {len(rows)} global strategies the highest is "
        f"{best}, the lowest {worst}"
    )


def _personal_means(table: MetricTable, column: int, rows: Sequence[TableRow], few: bool) -> str:
    means = "means over all personal models" if table.columns[column].unseen else "personal models"
    if few or len(rows) <= FEW_ARMS:
        return f"{means}: {listed([_mean(table, column, row) for row in rows])}"
    best = _by_mean(table, column, rows)[0]
    return f"{means}: highest of {len(rows)} is {_mean(table, column, best)}"


def _by_mean(table: MetricTable, column: int, rows: Sequence[TableRow]) -> list[TableRow]:
    """Highest mean first; PSNR is better when higher."""
    return sorted(rows, key=lambda row: -table.cells[row.name, column].mean)


def _mean(table: MetricTable, column: int, row: TableRow) -> str:
    return f"{row.label} {number(table.cells[row.name, column].mean, table.decimals)}"


def _best(table: MetricTable, column: int) -> str:
    best = [row.label for row in global_rows(table.rows) if (row.name, column) in table.best]
    if not best:
        return ""
    if len(best) > 1:
        return f"; equal highest federated mean: {listed(best)}"
    return f"; highest federated mean: {best[0]}"


def _place(population: Population) -> str:
    if population.unseen:
        return f"At the unseen site {population.sites[0]}"
    return "Over all patients of the federated sites"
