"""The page of a study at several levels: a curve per strategy, and a table behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from report.figures.levels import draw_levels
from report.figures.style import as_address
from report.number_format import counted, decimals_for, listed, number
from report.numbers.over_seeds.levels import LevelsAnalysis
from report.numbers.over_seeds.study import analyse_study
from report.numbers.rows import TableRow
from report.page.render import environment
from report.page.studies.study import verdict


@dataclass(frozen=True)
class AxisTable:
    """The levels of one axis.

    Attributes:
        label: of the axis.
        levels: name, place in words, and number of runs of each.
        number: counted from 1.
    """

    label: str
    levels: tuple[tuple[str, str, int], ...]
    number: int


def render_levels(analysis: LevelsAnalysis) -> str:
    """The whole page as text; it refers to no other file or address."""
    study = analysis.study
    drawable = any(row.is_federated for row in analysis.rows)
    return (
        environment()
        .get_template("levels.html")
        .render(
            study=study,
            run=study.first.first.about,
            metric=analysis.metric,
            population=analysis.population,
            rows=analysis.rows,
            summary=levels_summary(analysis),
            tables=_tables(analysis),
            cell=lambda level, row: _cell(analysis, level, row),
            verdicts=_verdicts(analysis),
            curves=as_address(draw_levels(analysis)) if drawable else None,
        )
    )


def levels_summary(analysis: LevelsAnalysis) -> list[str]:
    """The paragraphs on top: what was run and what is shown; no level is tested against another."""
    study, metric = analysis.study, analysis.metric
    seeds = sorted({seed for one in study.studies.values() for seed in one.runs})
    return [
        f"Every arm was trained at {counted(len(study.studies), 'level')}, with seeds "
        f"{listed([str(seed) for seed in seeds])}. Shown is the primary outcome, named before the "
        f"first run: {metric.label} ({metric.direction}), the mean over patients of "
        f"{analysis.population.label} and over runs; what stands behind ± is the standard "
        "deviation between runs.",
        "Levels are not tested against each other. Within each level every arm is tested against "
        "the reference, as the page of that level says.",
    ]


def _tables(analysis: LevelsAnalysis) -> list[AxisTable]:
    studies = analysis.study.studies
    return [
        AxisTable(
            axis.label,
            tuple(
                (level, "∞" if math.isinf(place) else f"{place:g}", len(studies[level].runs))
                for place, level in analysis.levels_on(name)
            ),
            place,
        )
        for place, (name, axis) in enumerate(analysis.study.axes.items(), start=1)
    ]


def _cell(analysis: LevelsAnalysis, level: str, row: TableRow) -> str:
    means = analysis.cells.get((level, row.name))
    if means is None:
        return number(None, 0)
    if not math.isfinite(means.mean):
        return "diverged"
    decimals = analysis.metric.decimals
    decimals = decimals_for(abs(means.mean)) if decimals is None else decimals
    spread = f" ± {number(means.spread, decimals)}" if means.spread is not None else ""
    return f"{number(means.mean, decimals)}{spread}"


def _verdicts(analysis: LevelsAnalysis) -> dict[str, dict[str, str]]:
    """Level to what its own tests say of every arm, by the arm's label."""
    found = {}
    for name, study in analysis.study.studies.items():
        tests = analyse_study(study).primary
        comparisons = tests.comparisons if tests else ()
        found[name] = {c.other.label: verdict(c, tests) for c in comparisons if tests}
    return found
