"""Two figures of a run as PNG files: a strip of pictures, and the convergence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from fedi2i.errors import DataError
from fedi2i.files import replacing
from report.figures.pictures import (
    PatientPanel,
    SitePanel,
    error_window,
    pictured_arm,
    ranking_row,
    site_panels,
)
from report.figures.strip import Strip, draw_strip
from report.figures.style import as_png
from report.numbers.analysis import Analysis
from report.page.convergence import psnr_figure
from report.page.pictures import patient_scores
from report.run.records import SOURCE, Slice

WIDTH_INCHES = 7.8
MOST_COLUMNS = 3
DOTS_PER_INCH = 160
"""With this width the letters stay readable in a column of 800 pixels."""


def figure_files(analysis: Analysis, folder: Path) -> Mapping[Path, bytes]:
    """Draw both figures, named after the run folder; nothing is written.

    Args:
        analysis: the numbers of the run.
        folder: where the files are to be.

    Returns:
        ``<run>-strip.png`` and ``<run>-convergence.png`` in the folder, with their content.

    Raises:
        DataError: the run holds no picture of an unseen site, or no validation PSNR.
    """
    name = analysis.run.folder.resolve().name
    figures = {"strip": _strip(analysis), "convergence": _convergence(analysis)}
    return {
        folder / f"{name}-{kind}.png": as_png(figure, DOTS_PER_INCH)
        for kind, figure in figures.items()
    }


def write_figures(files: Mapping[Path, bytes]) -> None:
    """Write the files, each atomically."""
    for path, content in files.items():
        with replacing(path) as temporary:
            temporary.write_bytes(content)


def _convergence(analysis: Analysis) -> Figure:
    run = analysis.run
    figure = psnr_figure(run, analysis.featured, WIDTH_INCHES, MOST_COLUMNS)
    if figure is None:
        raise DataError(
            f"{run.folder / 'curves.csv'}: holds no val/psnr, so there is no convergence to draw; "
            "leave out --figures, or give a run with curves"
        )
    figure.suptitle(f"Validation PSNR per round{_computed(analysis)}", fontsize=8.5)
    return figure


def _strip(analysis: Analysis) -> Figure:
    """The reference's translation of the median patient of the first unseen site with pictures."""
    run, featured = analysis.run, analysis.featured
    panels = site_panels(run, featured)
    unseen = next((panel for panel in panels if panel.site.unseen), None)
    if unseen is None:
        raise _no_pictures(analysis, "target slice of a test patient")
    patient = _median_patient(unseen)
    row = ranking_row(featured)
    arm = pictured_arm(run, row, unseen.site)
    chosen = patient.chosen

    def stored(what: str) -> Slice:
        found = run.slices.get((unseen.site.name, chosen.subject, what))
        if found is None:
            raise _no_pictures(analysis, f"slice '{what}' of patient {chosen.subject}")
        return found

    model = arm.name if arm is not None else row.name
    strip = Strip(
        source=stored(SOURCE),
        prediction=stored(model),
        target=patient.target,
        mask=patient.mask,
        method=row.label,
        title=(
            f"Unseen site {unseen.site.name}, {chosen.role} patient {chosen.subject} "
            f"(number {chosen.rank} of {chosen.patients} by PSNR){_computed(analysis)}"
        ),
        below_source=patient_scores(run, unseen.site, chosen.subject, SOURCE, named=True),
        below_prediction=patient_scores(run, unseen.site, chosen.subject, model, named=True),
        window=error_window(panels),
        shown=run.about.shown,
    )
    return draw_strip(strip, WIDTH_INCHES)


def _computed(analysis: Analysis) -> str:
    return " · computed data, not acquired" if analysis.run.about.computed else ""


def _median_patient(panel: SitePanel) -> PatientPanel:
    """The page's median patient; of one or two stored patients the first, which is the lower."""
    medians = [patient for patient in panel.patients if patient.chosen.role == "median"]
    return (*medians, *panel.patients)[0]


def _no_pictures(analysis: Analysis, what: str) -> DataError:
    return DataError(
        f"{analysis.run.folder / 'slices.npz'}: holds no {what} of an unseen site, so there is no "
        "strip to draw; leave out --figures, or give a run with such pictures"
    )
