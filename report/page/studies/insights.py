"""What the statistics of a study allow to be said, sentence by sentence.

Every sentence follows by rule from a test or an interval that it names, and says as well where
nothing was shown. A rule that does not apply gives no sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from report.number_format import counted, listed, number, p_value
from report.numbers.learnt import learnt_among
from report.numbers.metrics import PSNR
from report.numbers.over_seeds.convergence import ROUNDS, ArmConvergence, StudyConvergence
from report.numbers.over_seeds.ranks import StudyRanks
from report.numbers.over_seeds.sites import Joining, SiteFairness
from report.numbers.over_seeds.study import (
    StudyAnalysis,
    StudyComparison,
    StudyTable,
    StudyTests,
)
from report.numbers.rows import TableRow
from report.numbers.statistics import ALPHA
from report.page.studies.over_seeds import OverSeeds, place_text
from report.page.summary import learnt_sentence

PERCENT = 100


def insights(analysis: StudyAnalysis, parts: OverSeeds) -> list[str]:
    """All sentences, in the order of the page."""
    found = learnt_sentences(analysis.tables)
    if analysis.primary is not None:
        found += precision_sentences(analysis.primary)
        found += contrary_sentences(analysis.primary, analysis.tests)
    if parts.convergence is not None:
        found += convergence_sentences(parts.convergence.found, parts.convergence.decimals)
    if parts.sites is not None:
        found += joining_sentences(parts.sites.found, parts.sites.decimals)
    if parts.ranks is not None:
        found += rank_sentences(parts.ranks.found)
    return found


def learnt_sentences(tables: Sequence[StudyTable]) -> list[str]:
    """Which arms are above what needs no network, by PSNR in the mean over runs."""
    return [
        learnt_sentence(item, table.decimals, by=" in the mean over runs")
        for table in tables
        if table.metric.name == PSNR
        for column, population in enumerate(table.columns)
        if population.headline
        and (item := learnt_among(population, _means(table, column), table.metric)) is not None
    ]


def _means(table: StudyTable, column: int) -> dict[TableRow, float]:
    """The means over runs; rows of which a run diverged are left out."""
    cells = {row: table.cells.get((row.name, column)) for row in table.rows}
    means = {row: cell.mean for row, cell in cells.items() if cell is not None}
    return {row: mean for row, mean in means.items() if not math.isnan(mean)}


def precision_sentences(primary: StudyTests) -> list[str]:
    """How small a difference the study could have shown."""
    tested = [item.test for item in primary.comparisons if item.test is not None]
    if not tested:
        return []
    reaches = [(test.interval[1] - test.interval[0]) / 2 for test in tested]
    decimals, unit = _decimals(primary), _unit(primary)
    ends = sorted({number(min(reaches), decimals), number(max(reaches), decimals)}, key=float)
    return [
        f"With {counted(tested[0].seeds, 'seed')} and {counted(tested[0].patients, 'patient')} the "
        f"95 % intervals of the primary outcome reach {' to '.join(ends)}{unit} to either side of "
        "the difference; one that is smaller would not have been shown."
    ]


def contrary_sentences(primary: StudyTests, tests: Sequence[StudyTests]) -> list[str]:
    """Where a difference shown in the primary outcome goes the other way in a secondary one."""
    return [
        f"{primary.reference.label} against {item.other.label}: in {other.metric.label} of "
        f"{_of_patients(other)} the difference points the other way (crossed t, "
        f"p {p_value(contrary.test.p)}, secondary and not corrected)."
        for item in primary.comparisons
        if item.differs
        for other in tests
        if not other.primary
        for contrary in other.comparisons
        if contrary.other == item.other
        and contrary.test is not None
        and contrary.test.p < ALPHA
        and _gain(contrary, other) * _gain(item, primary) < 0
    ]


def _gain(item: StudyComparison, tests: StudyTests) -> float:
    """Positive where the reference is better; 0 where the metric has no known direction."""
    if item.test is None or tests.metric.higher_is_better is None:
        return 0.0
    return item.test.mean if tests.metric.higher_is_better else -item.test.mean


def convergence_sentences(found: StudyConvergence, decimals: int) -> list[str]:
    """What the way to the goal says."""
    if found.goal is None:
        return [f"How fast arms come close to the centralised one is not said: {found.why_not}."]
    unit = f" {found.metric.unit}" if found.metric.unit else ""
    goal = (
        f"95 % of the way from the constant baseline to the centralised arm "
        f"({number(found.goal.value, decimals)}{unit})"
    )
    federated = [arm for arm in found.arms if arm.row.is_federated]
    never = [arm.row.label for arm in federated if arm.medians[ROUNDS].reached == 0]
    sentences = [_arrival(arm, goal) for arm in federated if arm.row.label == found.reference]
    others = [label for label in never if label != found.reference]
    if others:
        sentences.append(f"No run of {listed(others)} came {goal} within its rounds.")
    return [*sentences, *_race_sentences(found, federated)]


def _arrival(arm: ArmConvergence, goal: str) -> str:
    median = arm.medians[ROUNDS]
    if median.reached == 0:
        return f"No run of {arm.row.label} came {goal} within its rounds."
    text = (
        f"{arm.row.label} came {goal} in {median.reached} of {median.runs} runs; the median is "
        f"{place_text(median.median, ROUNDS)} rounds"
    )
    if median.runs > 1:
        text += (
            f" (from {place_text(median.low, ROUNDS)} to {place_text(median.high, ROUNDS)}, which "
            f"covers the median with {round(PERCENT * median.coverage)} %)"
        )
    return f"{text}."


def _race_sentences(found: StudyConvergence, arms: Sequence[ArmConvergence]) -> list[str]:
    raced = [arm for arm in arms if arm.race is not None]
    if not raced:
        return []
    sentences = [
        f"{arm.row.label} needs {'fewer' if arm.shown_faster else 'more'} rounds to the goal than "
        f"{found.reference}: {'earlier' if arm.shown_faster else 'later'} in "
        f"{max(arm.race.earlier, arm.race.later)} of {counted(arm.medians[ROUNDS].runs, 'seed')} "
        f"(exact sign test, corrected p {p_value(arm.p_holm)})."
        for arm in raced
        if arm.race is not None and (arm.shown_faster or arm.shown_slower)
    ]
    if sentences:
        return sentences
    runs = raced[0].medians[ROUNDS].runs
    least = min(1.0, len(raced) * 2.0 ** (1 - runs))
    text = (
        f"No strategy is shown to need fewer or more rounds to the goal than {found.reference} "
        f"(exact sign tests over {counted(runs, 'seed')}, corrected for {len(raced)})"
    )
    if least >= ALPHA:
        text += f"; with so few seeds no corrected p can fall below {number(least, 3)}"
    return [f"{text}."]


def joining_sentences(found: SiteFairness, decimals: int) -> list[str]:
    """Who gains and who loses by joining, for every federated arm."""
    unit = f" {found.metric.unit}" if found.metric.unit else ""
    sentences = []
    for row in dict.fromkeys(item.row for item in found.joining):
        items = [item for item in found.joining if item.row == row]
        parts = []
        for word, gains in (("gain", True), ("lose", False)):
            chosen = [_with_size(item, decimals, unit) for item in items if item.gains is gains]
            if chosen:
                verb = word if len(chosen) > 1 else f"{word}s"
                parts.append(f"{listed(chosen)} {verb}")
        opened = [item.site for item in items if item.test is not None and item.gains is None]
        if opened:
            parts.append(f"neither is shown for {listed(opened)}")
        if parts:
            sentences.append(
                f"{row.label} against training alone, in {found.metric.label}: {'; '.join(parts)} "
                f"(crossed t over runs and the site's patients, corrected for {len(items)} sites)."
            )
    untested = sorted({item.why_not for item in found.joining if item.test is None})
    if untested:
        sentences.append(
            f"For some sites it is not tested whether they gain by joining: {listed(untested)}."
        )
    return sentences


def _with_size(item: Joining, decimals: int, unit: str) -> str:
    if item.test is None:
        return item.site
    low, high = (number(end, decimals, signed=True) for end in item.test.interval)
    mean = number(item.test.mean, decimals, signed=True)
    return f"{item.site} ({mean}{unit}, 95 % from {low} to {high})"


def rank_sentences(found: StudyRanks) -> list[str]:
    """What the mean ranks over the runs say."""
    ranks, labels = found.ranks, [row.label for row in found.rows]
    tested = f"Friedman's test over {counted(ranks.blocks, 'seed')}, p {p_value(ranks.p)}"
    if not ranks.p < ALPHA:
        return [f"The ranks of the strategies over the runs are not shown to differ ({tested})."]
    apart = [
        f"{labels[one]} before {labels[other]}"
        for one in range(len(labels))
        for other in range(len(labels))
        if ranks.means[other] - ranks.means[one] > ranks.critical_difference
    ]
    named = f"; further apart than the critical difference: {listed(apart)}" if apart else ""
    return [f"The ranks of the strategies over the runs differ ({tested}){named}."]


def _decimals(tests: StudyTests) -> int:
    return 3 if tests.metric.decimals is None else tests.metric.decimals


def _unit(tests: StudyTests) -> str:
    return f" {tests.metric.unit}" if tests.metric.unit else ""


def _of_patients(tests: StudyTests) -> str:
    if not tests.population.unseen:
        return "the federated sites' patients"
    sites = tests.population.sites
    return f"the patients of {listed(sites)}"
