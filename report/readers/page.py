"""The page of a reader study: a figure and tables, no picture and no name of a patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from report.figures.style import GLOBAL_COLOUR, REFERENCE_COLOUR, STYLE, WIDTH_INCHES, as_address
from report.readers.form import questions, reader_templates
from report.readers.scores import PreferenceScores, Scores, TuringScores
from report.readers.tables import agreement_text, kappa_name, share_text

_ROW_INCHES = 0.42


def render_scores(scores: Scores) -> str:
    """The whole page as text; it refers to no other file or address."""
    templates, figure = reader_templates(), draw_scores(scores)
    templates.filters |= {"share_text": share_text, "agreement_text": agreement_text}
    return templates.get_template("scores.html").render(
        scores=scores,
        key=scores.key,
        labels=scores.key.labels,
        questions=questions(scores.key),
        kappa=kappa_name(scores),
        figure=as_address(figure) if figure else None,
    )


def draw_scores(scores: Scores) -> Figure | None:
    """Rates and strengths with their intervals, the arms from top to bottom; None without any."""
    labels = [arm.label for arm in scores.key.arms]
    panels: list[Callable[[Axes], None]] = []
    if scores.turing is not None:
        panels.append(partial(_draw_rates, scores.turing, labels))
    if scores.preference is not None and scores.preference.strengths:
        panels.append(partial(_draw_strengths, scores.preference, labels))
    if not panels:
        return None
    with matplotlib.rc_context(STYLE):
        height = 1.1 + _ROW_INCHES * (len(labels) + 1)
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for draw, axis in zip(panels, axes, strict=True):
            draw(axis)
        return figure


def _draw_rates(turing: TuringScores, labels: Sequence[str], axis: Axes) -> None:
    for place, share in enumerate([*turing.arms.values(), turing.specificity]):
        colour = REFERENCE_COLOUR if share is turing.specificity else GLOBAL_COLOUR
        if share.of:
            _draw_interval(axis, place, share.share, share.low, share.high, colour)
    axis.set_xlim(-0.02, 1.02)
    axis.set_title("Called real")
    axis.set_xlabel("share of pictures  (translated as often as real: no difference seen)")
    _name_rows(axis, [*labels, "Real pictures"])


def _draw_strengths(preference: PreferenceScores, labels: Sequence[str], axis: Axes) -> None:
    for place, one in enumerate(preference.strengths):
        _draw_interval(axis, place, one.log, one.low, one.high, GLOBAL_COLOUR)
    axis.axvline(0, color="#888888", linewidth=1)
    axis.set_title("Preferred")
    axis.set_xlabel(f"logarithm of strength over {labels[0]}'s  (right is preferred)")
    _name_rows(axis, labels)


def _draw_interval(
    axis: Axes, place: int, value: float, low: float, high: float, colour: str
) -> None:
    axis.plot([low, high], [place, place], color=colour, linewidth=2)
    axis.plot(value, place, "o", color=colour, ms=6)


def _name_rows(axis: Axes, labels: Sequence[str]) -> None:
    axis.set_yticks(np.arange(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
