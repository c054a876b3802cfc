"""Everything that ``fedi2i report`` writes into the folder of a run or of a study."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from report.document.files import FOLDER, Page, page_files
from report.document.pdf import as_pdf
from report.document.reading import read_document
from report.figures.style import drawn_figures
from report.numbers.analysis import Analysis
from report.numbers.over_seeds.levels import LevelsAnalysis
from report.numbers.over_seeds.study import StudyAnalysis
from report.page.manuscript import manuscript_section
from report.page.render import render_page
from report.page.studies.federated import render_federated
from report.page.studies.levels import render_levels
from report.page.studies.matching import render_matching
from report.page.studies.study import render_study
from report.run.federated import FederatedStudy
from report.run.matching import MatchingStudy

PAGE, PDF = Path("report.html"), Path("report.pdf")
METHODS = FOLDER / "methods.txt"


def run_outputs(analysis: Analysis) -> dict[Path, bytes]:
    """The page of a run, and its tables and figures; nothing is written.

    Returns:
        Path from the run's folder to content.
    """
    with drawn_figures() as drawn:
        html = render_page(analysis)
    page = Page(drawn, analysis.run.about.computed)
    return {PAGE: html.encode(), **page_files(page, read_document(html))}


def study_outputs(analysis: StudyAnalysis, typst: ModuleType | None) -> dict[Path, bytes]:
    """The page of a study, its tables and figures, its methods as text and the PDF.

    Args:
        analysis: the numbers of the study.
        typst: the package that sets the PDF; without it there is none.

    Returns:
        Path from the study's folder to content.
    """
    computed = analysis.study.first.about.computed
    with drawn_figures() as drawn:
        html = render_study(analysis)
    document = read_document(html)
    outputs = {PAGE: html.encode()}
    if typst is not None:
        outputs[PDF] = as_pdf(document, computed, typst)
    outputs |= page_files(Page(drawn, computed), document)
    outputs[METHODS] = manuscript_section(analysis).pasted.encode()
    return outputs


def levels_outputs(analysis: LevelsAnalysis) -> dict[Path, bytes]:
    """The page of a study at several levels, and its tables and figures; nothing is written.

    Returns:
        Path from the study's folder to content.
    """
    computed = analysis.study.first.first.about.computed
    with drawn_figures() as drawn:
        html = render_levels(analysis)
    return {PAGE: html.encode(), **page_files(Page(drawn, computed), read_document(html))}


def federated_outputs(study: FederatedStudy) -> dict[Path, bytes]:
    """The page of a study that ran in a federation, and its tables; nothing is written.

    Returns:
        Path from the study's folder to content.
    """
    html = render_federated(study)
    return {PAGE: html.encode(), **page_files(Page({}, computed=False), read_document(html))}


def matching_outputs(study: MatchingStudy) -> dict[Path, bytes]:
    """The page of a matching study, and its tables and figures; nothing is written.

    Returns:
        Path from the study's folder to content.
    """
    with drawn_figures() as drawn:
        html = render_matching(study)
    return {PAGE: html.encode(), **page_files(Page(drawn, study.computed), read_document(html))}
