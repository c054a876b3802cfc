"""The ranking of the global strategies as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from report.markup import Markup, joined, note, row, table, tag
from report.methods import Method
from report.number_format import counted, listed, number, p_value
from report.rank_tests import RankTest
from report.statistics import ALPHA


def ranks_part(
    tests: Sequence[RankTest], like: Mapping[Method, tuple[Method, ...]], letter: str
) -> Markup:
    """A table of mean ranks, a column per population and metric; empty without tests.

    Args:
        tests: the tests of all populations and metrics.
        like: methods with their copies, as ``distinct_methods`` finds them.
        letter: of the table.
    """
    if not tests:
        return Markup("")
    methods = sorted(tests[0].mean_ranks, key=lambda method: tests[0].mean_ranks[method])
    header = ("strategy", *(_heading(test) for test in tests))
    body = [
        row(_name(method, like), *(_cell(test, method) for test in tests)) for method in methods
    ]
    body += [
        row("critical difference", *(number(test.critical_difference, 2) for test in tests)),
        row("Friedman p", *(p_value(test.p) for test in tests)),
    ]
    caption = joined([tag("b", f"Table 3{letter}. Mean ranks"), " · global strategies · 1 is best"])
    return joined([table(caption, header, body, class_="numbers even"), _explanation(tests)])


def _heading(test: RankTest) -> str:
    return f"{test.metric.label}, {test.population.label} (n = {test.n})"


def _name(method: Method, like: Mapping[Method, tuple[Method, ...]]) -> str:
    return ", ".join([method.label, *(other.label for other in like.get(method, ()))])


def _cell(test: RankTest, method: Method) -> Markup:
    if method not in test.mean_ranks:
        return tag("td", number(None, 0))
    strong = "strong" if test.with_the_best(method) else ""
    return tag("td", number(test.mean_ranks[method], 2), class_=strong)


def _explanation(tests: Sequence[RankTest]) -> Markup:
    few = [test.population.label for test in tests if test.n < 10]
    rough = (
        f" With {counted(min(test.n for test in tests), 'patient')} ({listed(sorted(set(few)))}) "
        "the p-value is rough."
        if few
        else ""
    )
    return note(
        "Strategies are ranked patient by patient; equal values share a rank, and strategies with "
        "equal values for every patient stand in one row. Friedman: whether they differ at all. "
        f"Mean ranks further apart than the critical difference differ at {ALPHA} (Nemenyi). "
        "Bold: not to be told apart from the best. Personal models are not ranked." + rough
    )
