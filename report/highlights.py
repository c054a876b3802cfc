"""Which of many federated methods figures and sentences single out, by a rule stated in the page.

With few federated methods all are shown. With more, figures name the reference (FedAvg), the best
of the other global strategies and the best personal one; means are compared over the first of these
groups of patients that was evaluated: all federated patients, the first unseen site.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from report.methods import (
    Method,
    are_few,
    federated_methods,
    personal_methods,
    reference_method,
)
from report.metrics import PSNR
from report.results_table import MetricTable

LINES = 2
"""Global strategies beside the reference that have a colour of their own in curves."""
PICTURES = 1
"""Global strategies beside the reference that have a column of pictures."""


@dataclass(frozen=True)
class Highlights:
    """The methods singled out.

    Attributes:
        methods: every method of the run.
        reference: FedAvg or the first federated one; None without any.
        best_global: the global strategies but the reference, best first.
        best_personal: the personal ones but the reference, best first.
        ranked_on: label of the patients the means are taken over.
    """

    methods: tuple[Method, ...]
    reference: Method | None
    best_global: tuple[Method, ...]
    best_personal: tuple[Method, ...]
    ranked_on: str

    @property
    def show_all(self) -> bool:
        """Whether the methods are so few that none has to be left out."""
        return are_few(self.methods)

    def chosen(self, others: int) -> tuple[Method, ...]:
        """What a figure shows, in the order of the tables.

        Args:
            others: number of global strategies beside the reference.
        """
        if self.show_all:
            return self.methods
        singled = {self.reference, *self.best_global[:others], *self.best_personal[:1]}
        return tuple(m for m in self.methods if not m.is_federated or m in singled)


def highlights(table: MetricTable) -> Highlights:
    """Rank the methods of the PSNR table; equal means keep their order in ``run.json``."""
    column = next(
        (index for index, column in enumerate(table.columns) if column.headline),
        0,
    )
    reference = reference_method(table.methods)

    def ranked(methods: Sequence[Method]) -> tuple[Method, ...]:
        means = {m: table.cells[m.name, column] for m in methods if (m.name, column) in table.cells}
        complete = [m for m, cell in means.items() if cell.n == table.counts[column]]
        return tuple(sorted((m for m in complete if m != reference), key=lambda m: -means[m].mean))

    return Highlights(
        methods=table.methods,
        reference=reference,
        best_global=ranked(federated_methods(table.methods)),
        best_personal=ranked(personal_methods(table.methods)),
        ranked_on=table.columns[column].label,
    )


def psnr_table(tables: Sequence[MetricTable]) -> MetricTable:
    """The table methods are ranked by."""
    return next(table for table in tables if table.metric == PSNR)
