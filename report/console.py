"""The results tables as plain text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from report.numbers.analysis import Analysis
from report.numbers.metrics import LEADING, MAIN
from report.numbers.results_table import MetricTable
from report.numbers.rows import (
    TableRow,
    are_few,
    global_rows,
    need_headings,
    personal_rows,
    row_groups,
)
from report.page.strategies import verdict_sentences
from report.page.summary import (
    ONE_RUN,
    divergence_sentences,
    primary_sentence,
    unlearnt_warnings,
)

GLOBAL_BEST, PERSONAL_BEST = "*", "+"
PERSONAL_NOTE = (
    "A personal model needs training data of the site that uses it; an unseen site has "
    "none,\nso its column holds the mean over all sites' models."
)


def console_text(analysis: Analysis) -> str:
    """The tables, and below them every warning."""
    warnings = divergence_sentences(analysis.rows) + unlearnt_warnings(analysis)
    warnings += [text for text, warns in verdict_sentences(analysis.effects) if warns]
    shown = [console_tables(analysis.tables)]
    if any(tests.comparisons for tests in analysis.tests):
        shown.append(f"{primary_sentence(analysis.run)} {ONE_RUN}")
    return "\n\n".join([*shown, *(f"! {text}" for text in warnings)])


def console_tables(tables: Sequence[MetricTable]) -> str:
    """Mean and standard deviation over patients, in groups; the best arms are marked.

    Global strategies and personal ones are ranked apart and have a mark each. Of many arms only the
    two leading metrics are printed; the page has all.
    """
    few = are_few(tables[0].rows)
    shown = MAIN if few else LEADING
    blocks = [_block(table) for table in tables if table.metric.name in shown]
    if few:
        blocks += _further([table for table in tables if table.metric.name not in shown])
    return "\n\n".join(filter(None, [*blocks, "\n".join(_legend(tables))]))


def _legend(tables: Sequence[MetricTable]) -> list[str]:
    rows = tables[0].rows
    personal = personal_rows(rows)
    of = " among the global models" if personal else ""
    marked = any(table.best for table in tables)
    lines = []
    if marked and len(global_rows(rows)) > 1:
        lines.append(f"{GLOBAL_BEST} best federated mean of its column{of}")
    if marked and len(personal) > 1:
        lines.append(f"{PERSONAL_BEST} best mean of its column among the personal models")
    return [*lines, *([PERSONAL_NOTE] if personal else [])]


def _block(table: MetricTable) -> str:
    unit = f" [{table.metric.unit}]" if table.metric.unit else ""
    title = f"{table.metric.label}{unit}, mean ± std over patients, {table.metric.direction}"
    header = [
        "",
        *(
            f"{column.label} (n={count})"
            for column, count in zip(table.columns, table.counts, strict=True)
        ),
    ]
    return _columns(title, [header, *_lines(table)])


def _further(tables: Sequence[MetricTable]) -> list[str]:
    """The means of all other metrics side by side, a block per column that the summary quotes."""
    tables = [table for table in tables if table.metric.higher_is_better is not None]
    if not tables:
        return []
    header = [""] + [
        f"{table.metric.name} ({'higher' if table.metric.higher_is_better else 'lower'})"
        for table in tables
    ]
    blocks = []
    for place, column in enumerate(tables[0].columns):
        if column.headline:
            lines = [header]
            for row in tables[0].rows:
                cells = (table.mean_and_std(row, place).partition(" ")[0] for table in tables)
                lines.append([row.label, *cells])
            title = f"Further metrics and their better way, mean over patients: {column.label}"
            blocks.append(_columns(title, lines))
    return blocks


def _columns(title: str, lines: Sequence[list[str]]) -> str:
    widths = [max(len(line[i]) for line in lines if len(line) > 1) for i in range(len(lines[0]))]
    return "\n".join([title, *(_aligned(line, widths) for line in lines)])


def _lines(table: MetricTable) -> list[list[str]]:
    """A line per table row; a line of one cell is the heading of a group."""
    lines: list[list[str]] = []
    headed = need_headings(table.rows)
    for title, members in row_groups(table.rows):
        if headed:
            lines.append([f"-- {title}"])
        for row in members:
            cells = [
                table.mean_and_std(row, column) + _mark(table, row, column)
                for column in range(len(table.columns))
            ]
            lines.append([row.label, *cells])
    return lines


def _mark(table: MetricTable, row: TableRow, column: int) -> str:
    if (row.name, column) not in table.best:
        return " "
    return PERSONAL_BEST if row.kind == "personal" else GLOBAL_BEST


def _aligned(cells: list[str], widths: list[int]) -> str:
    if len(cells) == 1:
        return cells[0]
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)])
