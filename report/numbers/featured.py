"""Which of many federated rows figures and sentences single out, by a rule stated in the page.

With few federated rows all are shown. With more, figures name the reference, the best of the other
global strategies and the best personal one; means are compared over the first of these groups of
patients that was evaluated: all federated patients, the first unseen site.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from report.numbers.metrics import PSNR
from report.numbers.results_table import MetricTable
from report.numbers.rows import (
    TableRow,
    are_few,
    converged_rows,
    global_rows,
    personal_rows,
    reference_row,
)

LINES = 2
"""Global strategies beside the reference that have a colour of their own in curves."""
PICTURES = 1
"""Global strategies beside the reference that have a column of pictures."""


@dataclass(frozen=True)
class FeaturedRows:
    """The rows singled out.

    Attributes:
        rows: every row of the run.
        reference: the row that others are compared with; None without a federated one.
        best_global: the global strategies but the reference, best first.
        best_personal: the personal ones but the reference, best first.
        ranked_on: label of the patients the means are taken over.
    """

    rows: tuple[TableRow, ...]
    reference: TableRow | None
    best_global: tuple[TableRow, ...]
    best_personal: tuple[TableRow, ...]
    ranked_on: str

    @property
    def show_all(self) -> bool:
        """Whether the rows are so few that none has to be left out."""
        return are_few(self.rows)

    def shown_in_figures(self, others: int) -> tuple[TableRow, ...]:
        """What a figure shows, in the order of the tables.

        Args:
            others: number of global strategies beside the reference.
        """
        if self.show_all:
            return self.rows
        singled = {self.reference, *self.best_global[:others], *self.best_personal[:1]}
        return tuple(row for row in self.rows if not row.is_federated or row in singled)


def featured_rows(tables: Sequence[MetricTable]) -> FeaturedRows:
    """Rank the rows by mean PSNR; equal means keep their order in ``run.json``."""
    table = psnr_table(tables)
    headlines = [index for index, column in enumerate(table.columns) if column.headline]
    column = headlines[0] if headlines else 0
    reference = reference_row(table.rows)

    def ranked(rows: Sequence[TableRow]) -> tuple[TableRow, ...]:
        cells = {row: table.cells.get((row.name, column)) for row in converged_rows(rows)}
        means = {
            row: cell.mean
            for row, cell in cells.items()
            if cell is not None and cell.n == table.counts[column] and row != reference
        }
        return tuple(sorted(means, key=lambda row: -means[row]))

    return FeaturedRows(
        rows=table.rows,
        reference=reference,
        best_global=ranked(global_rows(table.rows)),
        best_personal=ranked(personal_rows(table.rows)),
        ranked_on=table.columns[column].label,
    )


def psnr_table(tables: Sequence[MetricTable]) -> MetricTable:
    """The table that rows are ranked by."""
    return next(table for table in tables if table.metric.name == PSNR)
