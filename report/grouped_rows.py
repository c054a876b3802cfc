"""Table rows under the headings of their groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from report.markup import Markup, group_row
from report.methods import Method, method_groups, need_headings

MOST_AIRY_ROWS = 12


def grouped_rows(
    methods: Sequence[Method], columns: int, rows_of: Callable[[Method], Iterable[Markup]]
) -> list[Markup]:
    """The rows of every method, with a heading before each group where the table needs them.

    Args:
        methods: in the order of the table.
        columns: of the table, the first one included.
        rows_of: the rows of one method.
    """
    rows: list[Markup] = []
    headed = need_headings(methods)
    for title, members in method_groups(methods):
        if headed:
            rows.append(group_row(title, columns))
        rows += [row for method in members for row in rows_of(method)]
    return rows


def table_class(rows: Sequence[Markup], *classes: str) -> str:
    """The classes of a table; one with many rows gets narrower rows, to fit a printed page."""
    return " ".join([*filter(None, classes), *(["long"] if len(rows) > MOST_AIRY_ROWS else [])])
