"""Figures 1 to 3, convergence: validation per site, training losses, everything else folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from report.figures.curves import (
    MOST_COLUMNS,
    CurvePanel,
    draw_multiples,
    draw_panels,
    mean_panels,
    panels_per_site,
    validation_panels,
)
from report.figures.style import WIDTH_INCHES, as_address, line_styles
from report.numbers.curves import PERSONAL, CurveBook, curve_book, mean_curve
from report.numbers.featured import LINES, FeaturedRows
from report.numbers.rows import TableRow
from report.numbers.strategy_effects import is_diagnostic
from report.run.records import Run

VALIDATION = (("val/psnr", "PSNR (dB)", 2), ("val/ssim", "SSIM", 3))
"""Metric, label of the y axis, digits after the point."""
RELAY = (("relay/psnr", "PSNR (dB)"), ("relay/ssim", "SSIM"))


@dataclass(frozen=True)
class Plot:
    """A drawn figure.

    Attributes:
        source: ``data:`` address of the image.
        titles: of its panels, for those who cannot see it.
    """

    source: str
    titles: str


@dataclass(frozen=True)
class ValidationFigure:
    """Figures 1 and 2, with a panel per site and, of many arms, one per strategy.

    Attributes:
        number: of the figure.
        metric: as in ``curves.csv``.
        label: as shown.
        sites: a panel per site; None where the metric was not recorded.
        strategies: a panel per strategy; None where there are few or none recorded the metric.
        not_recorded: labels of the strategies without a panel.
        diverged: labels of the strategies without a number to draw.
    """

    number: int
    metric: str
    label: str
    sites: Plot | None
    strategies: Plot | None
    not_recorded: tuple[str, ...]
    diverged: tuple[str, ...]


@dataclass(frozen=True)
class ConvergenceSection:
    """All curves of a run.

    Attributes:
        validation: Figures 1 and 2.
        training: Figure 3, or None without training losses.
        relay: what sites measured of the model handed to them inside a round, or None.
        others: every other recorded quantity, or None.
        kinds: kinds of the rows that have lines.
        many: whether there are too many arms for every one to have a colour.
        in_colour: labels of the federated rows with a colour of their own, where not all have.
    """

    validation: tuple[ValidationFigure, ...]
    training: Plot | None
    relay: Plot | None
    others: Plot | None
    kinds: frozenset[str]
    many: bool
    in_colour: tuple[str, ...]


def convergence_section(run: Run, featured: FeaturedRows) -> ConvergenceSection | None:
    """Draw every figure; None where the run recorded no curves."""
    drawing = _drawing(run, featured)
    book, lines = drawing.book, drawing.lines
    if not book.metrics:
        return None
    training = [name for name in book.metrics if name.startswith("train/")]
    best = (*featured.best_global[:LINES], *featured.best_personal[:1])
    named = (featured.reference, *best) if featured.reference else best
    return ConvergenceSection(
        validation=tuple(
            _validation_figure(drawing, number, *metric)
            for number, metric in enumerate(VALIDATION, start=1)
        ),
        training=drawing.plot(mean_panels(book, training), share_y=False),
        relay=_relay(drawing),
        others=drawing.plot(mean_panels(book, _other_metrics(book)), share_y=False),
        kinds=frozenset(row.kind for row in lines),
        many=not featured.show_all,
        in_colour=tuple(row.label for row in named),
    )


def psnr_figure(run: Run, featured: FeaturedRows, width: float, most_columns: int) -> Figure | None:
    """Figure 1 of the page in another size; None where the run recorded no validation PSNR.

    Args:
        run: the files read.
        featured: the rows that have a colour of their own.
        width: in inches.
        most_columns: panels beside each other.
    """
    drawing = _drawing(run, featured)
    metric, label, _ = VALIDATION[0]
    if metric not in drawing.book.metrics:
        return None
    panels = validation_panels(drawing.book, drawing.lines, metric, label)
    return drawing.figure(panels, share_y=True, width=width, most_columns=most_columns)


def _drawing(run: Run, featured: FeaturedRows) -> _Drawing:
    lines = tuple(row for row in featured.rows if row.is_trained)
    return _Drawing(curve_book(run), lines, featured)


@dataclass(frozen=True)
class _Drawing:
    """What every figure of the section is drawn from."""

    book: CurveBook
    lines: tuple[TableRow, ...]
    featured: FeaturedRows

    def plot(
        self,
        panels: Sequence[CurvePanel],
        share_y: bool,
        named: Sequence[TableRow] | None = None,
    ) -> Plot | None:
        """Draw panels for the page; None without panels."""
        if not panels:
            return None
        source = as_address(self.figure(panels, share_y, named))
        return Plot(source, ", ".join(panel.title for panel in panels))

    def figure(
        self,
        panels: Sequence[CurvePanel],
        share_y: bool,
        named: Sequence[TableRow] | None = None,
        width: float = WIDTH_INCHES,
        most_columns: int = MOST_COLUMNS,
    ) -> Figure:
        """Draw panels; ``named`` replaces the usual choice of lines with a colour of their own."""
        in_colour = self.featured.shown_in_figures(LINES) if named is None else named
        styles = line_styles(self.lines, in_colour)
        late = not self.featured.show_all
        return draw_panels(panels, self.lines, styles, share_y, late, width, most_columns)


def _validation_figure(
    drawing: _Drawing, number: int, metric: str, label: str, decimals: int
) -> ValidationFigure:
    book = drawing.book
    if metric not in book.metrics:
        return ValidationFigure(number, metric, label, None, None, (), ())
    sites = drawing.plot(validation_panels(book, drawing.lines, metric, label), share_y=True)
    if drawing.featured.show_all:
        return ValidationFigure(number, metric, label, sites, None, (), ())
    curves = {row: mean_curve(book, row, metric) for row in drawing.lines if row.is_federated}
    recorded = {row: curve for row, curve in curves.items() if len(curve)}
    empty = [row for row in curves if row not in recorded]
    strategies = None
    if recorded:
        figure = draw_multiples(recorded, drawing.featured.reference, label, decimals)
        strategies = Plot(as_address(figure), ", ".join(row.label for row in recorded))
    return ValidationFigure(
        number,
        metric,
        label,
        sites,
        strategies,
        not_recorded=tuple(row.label for row in empty if not row.diverged),
        diverged=tuple(row.label for row in empty if row.diverged),
    )


def _relay(drawing: _Drawing) -> Plot | None:
    """The model that goes from site to site; it has no mean over sites."""
    panels = [
        panel
        for metric, label in RELAY
        for panel in panels_per_site(drawing.book, drawing.lines, metric, label)
    ]
    relayed = [row for row in drawing.lines if any(len(panel.curve(row)) for panel in panels)]
    return drawing.plot(panels, share_y=False, named=relayed)


def _other_metrics(book: CurveBook) -> list[str]:
    shown = {metric for metric, *_ in VALIDATION}
    return [
        name
        for name in book.metrics
        if name not in shown
        and not name.startswith(("train/", PERSONAL, "relay/"))
        and not is_diagnostic(name)
    ]
