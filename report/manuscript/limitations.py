"""What a study does not show, by rule from what it holds."""

from __future__ import annotations

from collections.abc import Iterator

from report.number_format import counted, listed, number
from report.numbers.over_seeds.crossed_t import FEWEST_SEEDS
from report.numbers.over_seeds.study import StudyAnalysis, StudyTests

MANY_SEEDS = 8
"""From this many runs on the spread between runs is not named as a limitation."""
MANY_PATIENTS = 30


def limitations(analysis: StudyAnalysis) -> list[str]:
    """A sentence or two for every limit that the files show."""
    tests = analysis.primary
    return [
        *_data(analysis),
        *_runs(analysis),
        *(_comparisons(tests, analysis.study.about.margin) if tests else ()),
        *_models(analysis),
    ]


def _data(analysis: StudyAnalysis) -> Iterator[str]:
    about, tests = analysis.study.first.about, analysis.primary
    if about.computed:
        yield (
            "All images are computed, not acquired. Differences between arms hold for this "
            "computed cohort and are no evidence about scanners or patients."
        )
    unseen = [site.name for site in about.unseen_sites]
    if not unseen:
        yield "Every site took part in training: nothing is known of sites that did not."
    else:
        yield (
            f"Outside the federation there was {listed(unseen)} alone. The test draws runs and "
            "patients, and no sites: nothing is claimed about further sites."
        )
    patients = _patients(tests) if tests else 0
    if 0 < patients < MANY_PATIENTS:
        yield f"The primary outcome rests on {counted(patients, 'patient')}."


def _patients(tests: StudyTests) -> int:
    return max((item.test.patients for item in tests.comparisons if item.test), default=0)


def _runs(analysis: StudyAnalysis) -> Iterator[str]:
    study = analysis.study
    seeds = len(study.runs)
    if seeds < FEWEST_SEEDS:
        yield f"With {counted(seeds, 'training run')} per arm there is a description and no test."
    elif seeds < MANY_SEEDS:
        yield (
            f"With {counted(seeds, 'training run')} per arm the spread between runs is itself "
            "known roughly."
        )
    yield from study.gaps
    diverged = [row.label for row in analysis.rows if _diverged(analysis, row.name)]
    if diverged:
        yield f"Diverged in one run or more, and not tested there: {listed(diverged)}."


def _diverged(analysis: StudyAnalysis, name: str) -> bool:
    """Whether a mean of a row is no number in some run."""
    cells = (t.cells[key] for t in analysis.tables for key in t.cells if key[0] == name)
    return any(cell.mean != cell.mean for cell in cells)


def _comparisons(tests: StudyTests, margin: float) -> Iterator[str]:
    unit = f" {tests.metric.unit}" if tests.metric.unit else ""
    decimals = 3 if tests.metric.decimals is None else tests.metric.decimals
    for item in tests.comparisons:
        if item.test is None or item.differs or item.equivalent:
            continue
        low, high = (number(end, decimals, signed=True) for end in item.test.interval)
        yield (
            f"{item.other.label} is not told apart from {tests.reference.label}, which is no proof "
            f"that they are equal: differences from {low} to {high}{unit} remain possible, and the "
            f"margin is {margin:g}{unit}."
        )
    yield "Secondary outcomes are not corrected for their number; they describe."


def _models(analysis: StudyAnalysis) -> Iterator[str]:
    about = analysis.study.first.about
    if not any(arm.privacy and arm.privacy.guarantees for arm in about.arms):
        yield (
            "No arm was trained under a mechanism that promises privacy: what models and updates "
            "give away of patients was not bounded."
        )
    yield (
        "Metrics measure likeness to the target image. The files of the study hold no judgement of "
        "a reader and no clinical outcome."
    )
    yield (
        "All sites ran on machines of the study, not in hospitals: times are not those of a real "
        "federation."
    )
