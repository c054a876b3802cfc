"""The README's two figures, from a finished run: a strip of pictures and the convergence.

Usage: ``python benchmarks/demo_figures.py runs/demo`` (``make figures-demo`` runs the demo first).
Reads run files only. The patient is chosen by the report's rule: the median of the unseen site.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedi2i.commands import run_command
from fedi2i.errors import DataError
from report.figures.pictures import (
    ERROR_COLOURS,
    PatientPanel,
    content_box,
    error_window,
    site_panels,
)
from report.figures.style import STYLE, add_legend, line_styles
from report.numbers.analysis import Analysis, analyse
from report.numbers.curves import curve_book, mean_curve
from report.numbers.featured import LINES
from report.run.folder import read_run
from report.run.records import SOURCE

DPI = 150
METRIC = "val/psnr"


def main() -> int:
    """Write both figures; the exit code is 2 for a run that cannot give them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder, for example runs/demo")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    options = parser.parse_args()
    return run_command(lambda: print("written:", *write_figures(options.run, options.out)))


def write_figures(run: Path, out: Path) -> list[Path]:
    """Write both figures of a run folder; returns their paths.

    Raises:
        DataError: the run cannot be read, or lacks what a figure shows; nothing is written.
    """
    analysis = analyse(read_run(run))
    figures = {"demo-strip.png": strip(analysis), "demo-convergence.png": convergence(analysis)}
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(out / name, dpi=DPI, metadata={"Software": None})
    return [out / name for name in figures]


def strip(analysis: Analysis) -> Figure:
    """Source, translation by the reference strategy, target and error of one unseen patient.

    Raises:
        DataError: the run stored no pictures of an unseen site.
    """
    panels = site_panels(analysis.run, analysis.featured)
    unseen = [panel for panel in panels if panel.site.unseen]
    if not unseen or analysis.featured.reference is None:
        raise DataError("the run stored no pictures of an unseen site; run 'make demo' first")
    patients = {patient.chosen.role: patient for patient in unseen[0].patients}
    patient = patients.get("median", unseen[0].patients[0])
    arms = [column.arm for column in unseen[0].columns]
    column = arms.index(analysis.featured.reference.arms[0])
    return _draw_strip(patient, column, analysis.featured.reference.label, error_window(panels))


def _draw_strip(patient: PatientPanel, column: int, label: str, window: float) -> Figure:
    box = content_box(patient.mask, patient.target.shape)
    error, translated = patient.errors()[column], patient.predictions[column]
    assert patient.source is not None and translated is not None and error is not None
    pictures = {
        "source": (patient.source, "gray", 1.0),
        f"translation ({label})": (translated, "gray", 1.0),
        "target": (patient.target, "gray", 1.0),
        f"absolute error, 0 to {window:g}": (error, ERROR_COLOURS, window),
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 2.9), layout="constrained")
        for axis, (title, (picture, colours, largest)) in zip(
            figure.subplots(1, len(pictures)), pictures.items(), strict=True
        ):
            axis.imshow(picture[box], cmap=colours, vmin=0, vmax=largest)
            axis.set_title(title)
            axis.set_axis_off()
    return figure


def convergence(analysis: Analysis) -> Figure:
    """PSNR of every arm on validation patients, averaged over federated sites, by round.

    Raises:
        DataError: the run recorded no validation.
    """
    book = curve_book(analysis.run)
    if METRIC not in book.metrics:
        raise DataError(f"the run's curves.csv has no rows of '{METRIC}'")
    rows = [row for row in analysis.featured.rows if row.kind != SOURCE]
    styles = line_styles(rows, analysis.featured.shown_in_figures(LINES))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        axis = figure.subplots()
        drawn = {}
        for row in rows:
            curve, style = mean_curve(book, row, METRIC), styles[row.name]
            if curve.empty:
                continue
            values = np.where(np.isfinite(curve.to_numpy()), curve.to_numpy(), np.nan)
            (line,) = axis.plot(
                curve.index.to_numpy(),
                values,
                color=style.colour,
                linestyle=style.dashes,
                marker=style.marker,
            )
            drawn.setdefault("other federated arms" if style.quiet else row.label, line)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("round")
        axis.set_ylabel("validation PSNR (dB)")
        add_legend(figure, drawn)
    return figure


if __name__ == "__main__":
    sys.exit(main())
