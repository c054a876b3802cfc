"""The key results as HTML: a table per metric, medians folded."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

from report.grouped_rows import grouped_rows, table_class
from report.markup import Markup, foldable, joined, note, row, table, tag
from report.methods import FEW_ARMS, Method, are_few, federated_methods, personal_methods
from report.metrics import LEADING, MAIN
from report.number_format import counted
from report.populations import ALL_FEDERATED
from report.records import Run
from report.results_table import MetricTable

MOST_EVEN_COLUMNS = 6


def results_section(run: Run, tables: Sequence[MetricTable]) -> Markup:
    """Table 1: one part per metric; median and quartiles, and further metrics, in foldables."""
    main = [t for t in tables if t.metric.name in MAIN]
    further = [t for t in tables if t.metric.name not in MAIN]
    letter = dict(zip((t.metric.name for t in (*main, *further)), ascii_lowercase, strict=False))
    few = are_few(tables[0].methods)
    # of many arms the two metrics that everyone reads first; the others one click away
    leading = main if few else [t for t in main if t.metric.name in LEADING]
    further = [t for t in (*main, *further) if t not in leading]
    parts = [_table(t, letter[t.metric.name], medians=False) for t in leading]
    medians = [_table(t, letter[t.metric.name], medians=True) for t in main]
    folded = [foldable("Median and quartiles over patients", *medians)]
    if further:
        folded.append(
            foldable(
                "Further metrics",
                *(_table(t, letter[t.metric.name], medians=False) for t in further),
            )
        )
    heading = tag("h2", "Key results", id="results")
    return tag("section", heading, *parts, _footnotes(run, tables), *folded)


def _table(shown: MetricTable, letter: str, medians: bool) -> Markup:
    unit = f" ({shown.metric.unit})" if shown.metric.unit else ""
    what = "median [25th, 75th percentile]" if medians else "mean ± standard deviation"
    caption = joined(
        [
            tag("b", f"Table 1{letter}. {shown.metric.label}{unit}"),
            f" · {what} over patients · {shown.metric.direction}",
        ]
    )
    header = [
        "",
        *(
            tag(
                "th",
                column.label,
                tag("small", f"n = {count}"),
                scope="col",
                class_=_column_class(column.label, column.unseen),
            )
            for column, count in zip(shown.columns, shown.counts, strict=True)
        ),
    ]

    def method_row(method: Method) -> list[Markup]:
        cells = [_cell(shown, method, index, medians) for index, _ in enumerate(shown.columns)]
        return [row(method.label, *cells, class_=method.kind)]

    body = grouped_rows(shown.methods, len(header), method_row)
    # equal columns line up from table to table, as long as the cells have room
    even = "even" if len(shown.columns) <= MOST_EVEN_COLUMNS else ""
    return table(caption, header, body, class_=table_class(body, "numbers", even))


def _cell(shown: MetricTable, method: Method, index: int, medians: bool) -> Markup:
    column = shown.columns[index]
    classes = _column_class(column.label, column.unseen)
    if (method.name, index) in shown.best and not medians:
        classes += " best"
    return tag("td", *_content(shown, method, index, medians), class_=classes.strip())


def _content(shown: MetricTable, method: Method, column: int, medians: bool) -> list[str]:
    if not medians:
        return [shown.mean_and_std(method, column)]
    median, _, quartiles = shown.median_and_quartiles(method, column).partition(" ")
    return [median, tag("br"), tag("small", quartiles)] if quartiles else [median]


def _column_class(label: str, unseen: bool) -> str:
    return "divided" if unseen or label == ALL_FEDERATED else ""


def _footnotes(run: Run, tables: Sequence[MetricTable]) -> Markup:
    methods = tables[0].methods
    spread = (
        "Standard deviation with n \N{MINUS SIGN} 1. The column of all federated patients gives "
        "every patient the same weight."
    )
    infinite = max((cell.infinite for t in tables for cell in t.cells.values()), default=0)
    if infinite:
        spread += (
            f" ∞: PSNR is infinite where prediction and target are equal (up to "
            f"{counted(infinite, 'patient')} in a cell); such a cell has no standard deviation."
        )
    texts = [*_site_models(methods), " ".join([*_marks(methods), spread])]
    return joined([note(text) for text in [*texts, _odd_count(run, tables[0])] if text])


def _site_models(methods: Sequence[Method]) -> list[str]:
    """What rows made of one model per site hold."""
    sentences = []
    if any(method.kind == "local" for method in methods):
        sentences.append(
            "Local only: at a federated hospital its own local model; at the unseen hospital the "
            "mean of the metric over all local models, patient by patient."
        )
    if personal_methods(methods):
        sentences.append(
            "Personal: after federated training every hospital has a model of its own, made with "
            "its own training data, and uses that one; such models are not ranked against global "
            "ones. At an unseen hospital there is no own model: its column holds the mean of the "
            "metric over all personal models, patient by patient, as for local only."
        )
    return sentences


def _marks(methods: Sequence[Method]) -> list[str]:
    ranked = [len(federated_methods(methods)), len(personal_methods(methods))]
    if max(ranked) < 2:
        return []
    apart = ", global and personal ones apart" if min(ranked) > 0 else ""
    sentences = [
        f"Shaded and bold: the federated arm with the best mean of its column{apart}, compared as "
        "printed; equal ones are all marked."
    ]
    if max(ranked) > FEW_ARMS:
        sentences.append(
            "The best of many arms on the same patients is in part the luckiest; Table 3 says "
            "what the patients can tell apart."
        )
    return sentences


def _odd_count(run: Run, shown: MetricTable) -> str:
    expected = {site.name: site.test for site in run.about.sites}
    differing = [
        f"{column.sites[0]} ({count} of {expected[column.sites[0]]})"
        for column, count in zip(shown.columns, shown.counts, strict=True)
        if column.label != ALL_FEDERATED and count != expected[column.sites[0]]
    ]
    if not differing:
        return ""
    return f"Not all test patients that run.json counts were evaluated: {', '.join(differing)}."
