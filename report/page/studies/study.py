"""The page of a study: what its runs together say of methods."""

from __future__ import annotations

from dataclasses import dataclass

from report.figures.study import draw_differences
from report.figures.style import as_address
from report.number_format import counted, decimals_for, listed, number, p_value
from report.numbers.metrics import MAIN
from report.numbers.over_seeds.crossed_t import FEWEST_SEEDS
from report.numbers.over_seeds.study import StudyAnalysis, StudyComparison, StudyTable, StudyTests
from report.numbers.rows import TableRow
from report.numbers.set_distances import distance_tables
from report.numbers.statistics import ALPHA
from report.page.manuscript import manuscript_section
from report.page.privacy import privacy_section
from report.page.provenance import flattened
from report.page.render import environment
from report.page.studies.insights import insights
from report.page.studies.over_seeds import joining_means, joining_words, means_text, over_seeds
from report.run.records import Run


@dataclass(frozen=True)
class TestTable:
    """A table of comparisons with its letter and digits."""

    letter: str
    tests: StudyTests
    decimals: int


def render_study(analysis: StudyAnalysis) -> str:
    """The whole page as text; it refers to no other file or address."""
    study = analysis.study
    primary = analysis.primary
    tables = _lettered(analysis.tests)
    parts = over_seeds(analysis)
    return (
        environment()
        .get_template("study.html")
        .render(
            about=study.about,
            run=study.first.about,
            seeds=list(study.runs),
            summary=study_summary(analysis),
            gaps=study.gaps,
            leading=[table for table in analysis.tables if table.metric.name in MAIN],
            further=[table for table in analysis.tables if table.metric.name not in MAIN],
            primary=[table for table in tables if table.tests.primary],
            secondary=[table for table in tables if not table.tests.primary],
            differences=(
                as_address(draw_differences(primary, study.about.margin)) if primary else None
            ),
            distances=distance_tables(list(study.runs.values()), analysis.rows),
            over_runs=len(study.runs) > 1,
            parts=parts,
            insights=insights(analysis, parts),
            means_text=means_text,
            joining_means=joining_means,
            joining_words=joining_words,
            mean_and_spread=mean_and_spread,
            verdict=verdict,
            settings=flattened(
                {key: value for key, value in study.about.experiment.items() if key != "seed"}
            ),
            few_seeds=len(study.runs) < FEWEST_SEEDS,
            fewest_seeds=FEWEST_SEEDS,
            privacy=privacy_section(study.first),
            manuscript=manuscript_section(analysis),
        )
    )


def _lettered(tests: tuple[StudyTests, ...]) -> list[TestTable]:
    found = []
    for place, item in enumerate(tests):
        largest = max(abs(value) for c in item.comparisons for value in c.per_seed.values())
        decimals = decimals_for(largest) if item.metric.decimals is None else item.metric.decimals
        found.append(TestTable("abcdefghijklmnopqrstuvwxyz"[place % 26], item, decimals))
    return found


def mean_and_spread(table: StudyTable, row: TableRow, column: int) -> str:
    """``21.31 ± 0.40`` over runs; of one run, or an arm that no seed changes, the mean alone."""
    cell = table.cells.get((row.name, column))
    if cell is None:
        return number(None, 0)
    if cell.mean != cell.mean:
        return "diverged"
    mean = number(cell.mean, table.decimals)
    return f"{mean} ± {number(cell.spread, table.decimals)}" if cell.spread else mean


def verdict(comparison: StudyComparison, tests: StudyTests) -> str:
    """What a primary comparison allows to be said, in a few words."""
    if comparison.test is None:
        return f"not tested: {comparison.why_not}"
    if comparison.differs:
        higher = comparison.test.mean > 0
        better = higher == bool(tests.metric.higher_is_better)
        word = "better" if better else "worse"
        return f"{word}, by less than the margin" if comparison.equivalent else word
    return "equivalent" if comparison.equivalent else "not told apart"


def study_summary(analysis: StudyAnalysis) -> list[str]:
    """The paragraphs on top; every statement follows from a test."""
    study, tests = analysis.study, analysis.primary
    seeds = len(study.runs)
    sites = study.first.about
    opening = (
        f"Every arm was trained {counted(seeds, 'time')}, with seeds "
        f"{listed([str(seed) for seed in study.runs])}, on "
        f"{counted(len(sites.federated_sites), 'site')}"
        f"{_unseen(study.first)}. What stands behind ± is the standard deviation between runs."
    )
    diverged = _divergences(analysis)
    if tests is None:
        return [opening, "There is no federated arm to compare with others.", *diverged]
    primary = _primary_sentence(tests, study.about.margin)
    return [opening, primary, *_findings(tests), *diverged]


def _divergences(analysis: StudyAnalysis) -> list[str]:
    """Which arm diverged with which seed; one sentence, or none."""
    missing = analysis.patients[analysis.patients["value"].isna()]
    found = []
    for row in analysis.rows:
        seeds = missing.loc[missing["row"] == row.name, "seed"].unique()
        if len(seeds):
            word = "seed" if len(seeds) == 1 else "seeds"
            found.append(f"{row.label} with {word} {listed([str(seed) for seed in seeds])}")
    return [f"Diverged, so without numbers there: {'; '.join(found)}."] if found else []


def _unseen(run: Run) -> str:
    names = [site.name for site in run.about.unseen_sites]
    return f", and tested at {listed(names)} as well, where nobody trained" if names else ""


def _primary_sentence(tests: StudyTests, margin: float) -> str:
    unit = f" {tests.metric.unit}" if tests.metric.unit else ""
    return (
        f"The primary outcome, named before the first run, is {tests.metric.label} over the "
        f"patients of {_whose(tests)}, {tests.reference.label} against every other arm; arms that "
        f"differ by less than {margin:g}{unit} are of equal use.{_of_one_site(tests)}"
    )


def _of_one_site(tests: StudyTests) -> str:
    """What the patients of one unseen site do not say."""
    if not tests.population.unseen or len(tests.population.sites) > 1:
        return ""
    return " All are patients of this one site, and say nothing about other sites."


def _whose(tests: StudyTests) -> str:
    sites = tests.population.sites
    if not tests.population.unseen:
        return "the federated sites"
    return f"the unseen site {sites[0]}" if len(sites) == 1 else "the unseen sites"


def _findings(tests: StudyTests) -> list[str]:
    """A sentence for every kind of verdict that occurs."""
    decimals = tests.metric.decimals
    decimals = 3 if decimals is None else decimals
    unit = f" {tests.metric.unit}" if tests.metric.unit else ""
    name, sentences = tests.reference.label, []
    for comparison in tests.comparisons:
        if comparison.differs and comparison.test is not None:
            low, high = comparison.test.interval
            sentences.append(
                f"{name} is {verdict(comparison, tests)} than {comparison.other.label}: "
                f"{number(comparison.test.mean, decimals, signed=True)}{unit} "
                f"(95 % from {number(low, decimals, signed=True)} to "
                f"{number(high, decimals, signed=True)}, corrected p {p_value(comparison.p_holm)})."
            )
    groups = {
        "equivalent": f"Equivalent to {name} within the margin (two one-sided tests at {ALPHA}):",
        "not told apart": f"Neither different from {name} nor shown to be equivalent:",
    }
    for words, opening in groups.items():
        labels = [c.other.label for c in tests.comparisons if verdict(c, tests) == words]
        if labels:
            sentences.append(f"{opening} {listed(labels)}.")
    untested = [c for c in tests.comparisons if c.test is None]
    if untested:
        reasons = listed(sorted({c.why_not for c in untested}))
        names = listed([c.other.label for c in untested])
        sentences.append(f"Not tested: {names} ({reasons}).")
    return sentences
