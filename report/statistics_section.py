"""The paired tests as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_lowercase

from report.grouped_rows import grouped_rows, table_class
from report.markup import Markup, foldable, joined, note, row, table, tag
from report.methods import Method, personal_methods
from report.metrics import LEADING
from report.number_format import counted, decimals_for, number, p_value, thousands
from report.rank_tests import RankTest
from report.ranks_section import ranks_part
from report.statistics import ALPHA, RESAMPLES, Comparison, PairedTests

HEADER = ("against", "n", "better in", "median difference", "95 % CI", "p", "p (Holm)")


def statistics_section(
    families: Sequence[PairedTests],
    ranks: Sequence[RankTest],
    like: Mapping[Method, tuple[Method, ...]],
    seed: int,
) -> Markup:
    """Table 3: the reference federated arm against every other method, and ranks of strategies."""
    heading = tag("h2", "Paired comparison per patient", id="statistics")
    families = [family for family in families if family.comparisons]
    if not families:
        return tag(
            "section",
            heading,
            note("There is no federated arm with another method to compare on the same patients."),
        )
    shown = [family for family in families if family.metric.name in LEADING]
    folded = [family for family in families if family.metric.name not in LEADING]
    letters = iter(ascii_lowercase)
    parts = [_table(family, next(letters, "")) for family in shown]
    if ranks:
        parts.append(ranks_part(ranks, like, next(letters, "")))
    if folded:
        tables = [_table(family, next(letters, "")) for family in folded]
        parts.append(foldable("The same for the other metrics", *tables))
    return tag("section", heading, _method(families, seed), tag("div", *parts, class_="tests"))


def _method(families: Sequence[PairedTests], seed: int) -> Markup:
    name = families[0].reference.label
    return tag(
        "p",
        f"{name} against each other method on the same patients, one value per patient, never per "
        "slice. p: two-sided Wilcoxon signed-rank test; p (Holm): corrected for the comparisons "
        f"of one table. Median difference: {name} minus the other, with a percentile bootstrap "
        f"95 % interval ({thousands(RESAMPLES)} resamples of patients, seed {seed}). Bold: "
        f"corrected p below {ALPHA}.",
        _borrowed_models(families),
    )


def _borrowed_models(families: Sequence[PairedTests]) -> str:
    """What stands for personal models where no model is the hospital's own."""
    others = {item.other for family in families for item in family.comparisons}
    if not personal_methods(others) or not any(f.population.unseen for f in families):
        return ""
    return (
        " Personal models enter with the hospital's own one, at an unseen hospital with the mean "
        "of the metric over all of them."
    )


def _table(family: PairedTests, letter: str) -> Markup:
    unit = f" ({family.metric.unit})" if family.metric.unit else ""
    caption = joined(
        [
            tag("b", f"Table 3{letter}. {family.population.label} · {family.metric.label}{unit}"),
            f" · {family.reference.label} against · {family.metric.direction}",
        ]
    )
    largest = max(abs(item.median_difference) for item in family.comparisons)
    decimals = family.metric.decimals
    decimals = decimals_for(largest) if decimals is None else decimals
    found = {item.other: item for item in family.comparisons}
    body = grouped_rows(list(found), len(HEADER), lambda method: [_row(found[method], decimals)])
    shown = table(caption, HEADER, body, class_=table_class(body, "numbers", "even"))
    return joined([shown, _small_n(family)])


def _row(item: Comparison, decimals: int) -> Markup:
    interval = number(None, 0)
    if item.interval is not None:
        low, high = (number(end, decimals, signed=True) for end in item.interval)
        interval = f"[{low}, {high}]"
    return row(
        item.other.label,
        str(item.n),
        number(None, 0) if item.better is None else f"{item.better} of {item.n}",
        number(item.median_difference, decimals, signed=True),
        interval,
        p_value(item.p),
        tag("td", p_value(item.p_holm), class_="strong" if item.significant else ""),
    )


def _small_n(family: PairedTests) -> Markup:
    """The remark where the number of patients alone rules out significance."""
    if family.smallest_p_holm < ALPHA:
        return Markup("")
    return tag(
        "p",
        f"n is too small for significance: with {counted(family.n, 'patient')} and "
        f"{counted(len(family.comparisons), 'comparison')} the smallest corrected p-value this "
        f"test can give is {number(family.smallest_p_holm, 3)}. A p-value above {ALPHA} here does "
        "not show that methods are equal; read the differences and their intervals.",
        class_="remark",
    )
