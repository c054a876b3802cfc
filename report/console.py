"""The results tables as plain text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from report.methods import (
    Method,
    are_few,
    federated_methods,
    method_groups,
    need_headings,
    personal_methods,
)
from report.metrics import LEADING, MAIN
from report.results_table import MetricTable

GLOBAL_BEST, PERSONAL_BEST = "*", "+"
PERSONAL_NOTE = (
    "A personal model needs training data of the hospital that uses it; at an unseen hospital "
    "there is none,\nso that column holds the mean over all hospitals' models."
)


def console_tables(tables: Sequence[MetricTable]) -> str:
    """Mean and standard deviation over patients, in groups; the best arms are marked.

    Global strategies and personal ones are ranked apart and have a mark each. Of many arms only the
    two leading metrics are printed; the page has all.
    """
    shown = MAIN if are_few(tables[0].methods) else LEADING
    blocks = [_block(table) for table in tables if table.metric.name in shown]
    return "\n\n".join(filter(None, [*blocks, "\n".join(_legend(tables))]))


def _legend(tables: Sequence[MetricTable]) -> list[str]:
    methods = tables[0].methods
    personal = personal_methods(methods)
    of = " among the global models" if personal else ""
    marked = any(table.best for table in tables)
    lines = []
    if marked and len(federated_methods(methods)) > 1:
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
    rows = [header, *_rows(table)]
    widths = [max(len(row[i]) for row in rows if len(row) > 1) for i in range(len(header))]
    return "\n".join([title, *(_line(row, widths) for row in rows)])


def _rows(table: MetricTable) -> list[list[str]]:
    """A row per method; a row of one cell is the heading of a group."""
    rows: list[list[str]] = []
    headed = need_headings(table.methods)
    for title, members in method_groups(table.methods):
        if headed:
            rows.append([f"-- {title}"])
        for method in members:
            cells = [
                table.mean_and_std(method, column) + _mark(table, method, column)
                for column in range(len(table.columns))
            ]
            rows.append([method.label, *cells])
    return rows


def _mark(table: MetricTable, method: Method, column: int) -> str:
    if (method.name, column) not in table.best:
        return " "
    return PERSONAL_BEST if method.kind == "personal" else GLOBAL_BEST


def _line(cells: list[str], widths: list[int]) -> str:
    if len(cells) == 1:
        return cells[0]
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)])
