"""Tables 1 to 3: key results, cross-site matrix, paired comparisons and ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from report.number_format import decimals_for
from report.numbers.analysis import Analysis
from report.numbers.cross_site import CrossSiteMatrix
from report.numbers.metrics import LEADING, MAIN
from report.numbers.ranks import RankTest
from report.numbers.results_table import MetricTable
from report.numbers.rows import (
    ALL_FEDERATED,
    FEW_ARMS,
    TableRow,
    are_few,
    global_rows,
    need_headings,
    personal_rows,
    row_groups,
)
from report.numbers.statistics import Comparison, PairedTests
from report.run.records import Run

MOST_AIRY_LINES = 12
FEW_PATIENTS = 10
"""Below this many patients the p-value of Friedman's test is rough."""

# ends of a one-hue ramp, light to dark: lightness alone carries the order
_LIGHT = (247, 251, 255)
_DARK = (8, 69, 128)
_EQUAL_CONTRAST = 0.68


@dataclass(frozen=True)
class ResultsSection:
    """Table 1.

    Attributes:
        leading: (letter, table) of the metrics in front.
        medians: the same of the metrics whose medians are shown, folded.
        further: the same of the metrics folded.
        has_local: whether a row is made of local models.
        has_personal: whether a row is made of personal models.
        ranked: number of rows marked against each other: global strategies, personal ones.
        many: whether the best of so many rows is in part the luckiest.
        infinite: the largest number of patients with infinite PSNR in a cell.
        undefined: labels of metrics, each with the number of patients for whom it is not defined.
        any_diverged: whether a row diverged.
        odd_counts: sites of which fewer patients were evaluated than ``run.json`` counts.
    """

    leading: tuple[tuple[str, MetricTable], ...]
    medians: tuple[tuple[str, MetricTable], ...]
    further: tuple[tuple[str, MetricTable], ...]
    has_local: bool
    has_personal: bool
    ranked: tuple[int, int]
    many: bool
    infinite: int
    undefined: tuple[tuple[str, int], ...]
    any_diverged: bool
    odd_counts: tuple[str, ...]


def results_section(run: Run, tables: Sequence[MetricTable]) -> ResultsSection:
    """Sort the tables of all metrics, and collect what the notes below them say."""
    lettered = [
        (ascii_lowercase[place] if place < len(ascii_lowercase) else str(place + 1), table)
        for place, table in enumerate(tables)
    ]
    rows = tables[0].rows
    labels = {metric.name: metric.label for metric in run.about.metrics}
    # of many arms the two metrics that everyone reads first; the others one click away
    front = MAIN if are_few(rows) else LEADING
    ranked = (len(global_rows(rows)), len(personal_rows(rows)))
    return ResultsSection(
        leading=tuple(item for item in lettered if item[1].metric.name in front),
        medians=tuple(item for item in lettered if item[1].metric.name in MAIN),
        further=tuple(item for item in lettered if item[1].metric.name not in front),
        has_local=any(row.kind == "local" for row in rows),
        has_personal=bool(personal_rows(rows)),
        ranked=ranked,
        many=max(ranked) > FEW_ARMS,
        infinite=max((cell.infinite for t in tables for cell in t.cells.values()), default=0),
        undefined=tuple((labels.get(name, name), count) for name, count in run.undefined.items()),
        any_diverged=any(row.diverged for row in rows),
        odd_counts=tuple(_odd_counts(run, tables[0])),
    )


def _odd_counts(run: Run, table: MetricTable) -> Iterator[str]:
    expected = {site.name: site.test for site in run.about.sites}
    for column, count in zip(table.columns, table.counts, strict=True):
        site = column.sites[0]
        if column.label != ALL_FEDERATED and count != expected[site]:
            yield f"{site} ({count} of {expected[site]})"


@dataclass(frozen=True)
class PairedTable:
    """One part of Table 3.

    Attributes:
        letter: of the table.
        tests: what it shows.
        decimals: digits after the point of the differences.
        primary: whether this is the run's primary outcome.
    """

    letter: str
    tests: PairedTests
    decimals: int
    primary: bool

    @property
    def rows(self) -> list[TableRow]:
        """The rows compared with the reference."""
        return [item.other for item in self.tests.comparisons]

    def against(self, row: TableRow) -> Comparison:
        """The comparison with a row."""
        return next(item for item in self.tests.comparisons if item.other == row)


@dataclass(frozen=True)
class RankTable:
    """The part of Table 3 that ranks the global strategies.

    Attributes:
        letter: of the table.
        tests: the columns.
        rows: best first by the first column.
        few: labels of populations that are too small for a precise p-value.
    """

    letter: str
    tests: tuple[RankTest, ...]
    rows: tuple[TableRow, ...]
    few: tuple[str, ...]

    @property
    def fewest(self) -> int:
        """Patients of the smallest population."""
        return min(test.n for test in self.tests)


@dataclass(frozen=True)
class ComparisonsSection:
    """Table 3.

    Attributes:
        reference: the row compared with every other.
        leading: paired tests in front.
        ranks: None for fewer than three global strategies.
        further: paired tests folded.
        borrows_models: whether personal models were compared at an unseen site, where none is own.
    """

    reference: TableRow
    leading: tuple[PairedTable, ...]
    ranks: RankTable | None
    further: tuple[PairedTable, ...]
    borrows_models: bool


def comparisons_section(analysis: Analysis) -> ComparisonsSection | None:
    """The paired tests and ranks, with letters; None where there is nothing to compare."""
    found = [tests for tests in analysis.tests if tests.comparisons]
    if not found:
        return None
    letters = iter(ascii_lowercase)
    front = (*LEADING, analysis.run.about.primary.metric)
    others = {item.other for tests in found for item in tests.comparisons}
    return ComparisonsSection(
        reference=found[0].reference,
        leading=_paired_tables(analysis, [t for t in found if t.metric.name in front], letters),
        ranks=_rank_table(analysis.ranks, letters),
        further=_paired_tables(analysis, [t for t in found if t.metric.name not in front], letters),
        borrows_models=bool(personal_rows(others)) and any(t.population.unseen for t in found),
    )


def _paired_tables(
    analysis: Analysis, found: Sequence[PairedTests], letters: Iterator[str]
) -> tuple[PairedTable, ...]:
    tables = []
    for tests in found:
        decimals = tests.metric.decimals
        if decimals is None:
            largest = max(abs(item.median_difference) for item in tests.comparisons)
            decimals = decimals_for(largest)
        tables.append(PairedTable(next(letters, ""), tests, decimals, analysis.is_primary(tests)))
    return tuple(tables)


def _rank_table(tests: Sequence[RankTest], letters: Iterator[str]) -> RankTable | None:
    if not tests:
        return None
    ranks = tests[0].mean_ranks
    return RankTable(
        letter=next(letters, ""),
        tests=tuple(tests),
        rows=tuple(sorted(ranks, key=lambda row: ranks[row])),
        few=tuple(sorted({t.population.label for t in tests if t.n < FEW_PATIENTS})),
    )


def shade_style(matrix: CrossSiteMatrix, line: int, column: int) -> str | None:
    """Paper and ink of a cell of the cross-site matrix as CSS; None without a value."""
    shade = matrix.shade(line, column)
    if shade is None:
        return None
    colour = tuple(round(a + (b - a) * shade) for a, b in zip(_LIGHT, _DARK, strict=True))
    # black and white ink contrast equally (about 4.3 : 1) at this shade
    ink = "#ffffff" if shade > _EQUAL_CONTRAST else "#111111"
    return f"background:rgb{colour};color:{ink}".replace(" ", "")


def length_class(rows: Sequence[TableRow], lines: int | None = None) -> str:
    """The CSS class of a long table, which has narrower lines to fit a printed page; else "".

    Args:
        rows: of the table, which may need headings between their groups.
        lines: how many lines the rows take, where not one each.
    """
    headings = len(row_groups(rows)) if need_headings(rows) else 0
    shown = len(rows) if lines is None else lines
    return "long" if shown + headings > MOST_AIRY_LINES else ""
