"""The results tables as plain text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from report.metrics import MAIN
from report.results_table import MetricTable


def console_tables(tables: Sequence[MetricTable]) -> str:
    """Mean and standard deviation over patients; ``*`` marks the best federated arm."""
    blocks = [_block(table) for table in tables if table.metric.name in MAIN]
    if any(table.best for table in tables):
        blocks.append("* best federated mean of its column")
    return "\n\n".join(blocks)


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
    body = [
        [
            method.label,
            *(
                table.mean_and_std(method, column)
                + ("*" if (method.name, column) in table.best else " ")
                for column in range(len(table.columns))
            ),
        ]
        for method in table.methods
    ]
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    lines = [_line(row, widths) for row in [header, *body]]
    return "\n".join([title, *lines])


def _line(cells: list[str], widths: list[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)])
