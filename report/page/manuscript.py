"""The parts of a study's page that a manuscript is written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from report.manuscript.checklist import Item, checklist, count_by_state
from report.manuscript.limitations import limitations
from report.manuscript.methods import methods
from report.manuscript.references import CLAIM, Numbering, Reference, of_strategy
from report.numbers.over_seeds.study import StudyAnalysis
from report.numbers.rows import TableRow
from report.run.records import Arm, Site


@dataclass(frozen=True)
class StrategyLine:
    """One line of the table of strategies.

    Attributes:
        row: the arm.
        arm: one of its models, which says what the strategy does.
        cited: the number of its paper in the references, or empty.
    """

    row: TableRow
    arm: Arm
    cited: str


@dataclass(frozen=True)
class ManuscriptSection:
    """All of it.

    Attributes:
        paragraphs: the methods as running text with numbers of references.
        sites: who had which patients.
        strategies: what was compared, with papers and equations.
        limitations: a paragraph each.
        checklist: section to items.
        states: number of items of each state.
        claim: the number of the checklist's reference.
        references: in the order of their numbers.
    """

    paragraphs: tuple[str, ...]
    sites: tuple[Site, ...]
    strategies: tuple[StrategyLine, ...]
    limitations: tuple[str, ...]
    checklist: Mapping[str, tuple[Item, ...]]
    states: Mapping[str, int]
    claim: str
    references: tuple[Reference, ...]

    @property
    def pasted(self) -> str:
        """The methods and what they cite, as plain text."""
        cited = [work for work in self.references if work != CLAIM]
        works = [f"[{n}] {_written(work)}" for n, work in enumerate(cited, start=1)]
        return "\n\n".join([*self.paragraphs, "\n".join(works)]) + "\n"


def manuscript_section(analysis: StudyAnalysis) -> ManuscriptSection:
    """Collect everything, and number the references as they come."""
    numbering = Numbering()
    paragraphs = tuple(numbering.written(sentences) for sentences in methods(analysis))
    lines = tuple(
        StrategyLine(row, row.arms[0], numbering.cite(of_strategy(row.arms[0])).strip())
        for row in analysis.rows
        if row.is_federated
    )
    items = checklist(analysis)
    return ManuscriptSection(
        paragraphs=tuple(text for text in paragraphs if text),
        sites=analysis.study.first.about.sites,
        strategies=lines,
        limitations=tuple(limitations(analysis)),
        checklist=items,
        states=count_by_state(items),
        claim=numbering.cite([CLAIM]).strip(),
        references=numbering.works,
    )


def _written(work: Reference) -> str:
    return f"{work.text}. {work.link}".strip()
