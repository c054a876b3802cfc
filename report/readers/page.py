"""The page of a reader study: a figure and tables, no picture and no name of a patient."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from report.figures.style import GLOBAL_COLOUR, REFERENCE_COLOUR, STYLE, WIDTH_INCHES, as_address
from report.readers.form import questions, reader_templates
from report.readers.key import Key
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
    panels = [
        *([_draw_rates] if scores.turing is not None else []),
        *([_draw_strengths] if scores.preference and scores.preference.strengths else []),
    ]
    if not panels:
        return None
    with matplotlib.rc_context(STYLE):
        height = 1.1 + _ROW_INCHES * (len(scores.key.arms) + 1)
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for draw, axis in zip(panels, axes, strict=True):
            draw(axis, scores)
        return figure


def _draw_rates(axis: Axes, scores: Scores) -> None:
    turing = scores.turing
    assert isinstance(turing, TuringScores)
    shares = [*turing.arms.values(), turing.specificity]
    for place, share in enumerate(shares):
        colour = REFERENCE_COLOUR if share is turing.specificity else GLOBAL_COLOUR
        if share.of:
            _draw_interval(axis, place, share.share, share.low, share.high, colour)
    axis.set_xlim(-0.02, 1.02)
    axis.set_title("Called real")
    axis.set_xlabel(
        "share of pictures  (translated ones as often as real ones: no difference seen)"
    )
    _name_rows(axis, [*_labels(scores.key), "Real pictures"])


def _draw_strengths(axis: Axes, scores: Scores) -> None:
    preference = scores.preference
    assert isinstance(preference, PreferenceScores)
    for place, one in enumerate(preference.strengths):
        _draw_interval(axis, place, one.log, one.low, one.high, GLOBAL_COLOUR)
    axis.axvline(0, color="#888888", linewidth=1)
    axis.set_title("Preferred")
    axis.set_xlabel(
        f"logarithm of strength over {scores.key.arms[0].label}'s  (right is preferred)"
    )
    _name_rows(axis, _labels(scores.key))


def _draw_interval(
    axis: Axes, place: int, value: float, low: float, high: float, colour: str
) -> None:
    axis.plot([low, high], [place, place], color=colour, linewidth=2)
    axis.plot(value, place, "o", color=colour, ms=6)


def _name_rows(axis: Axes, labels: list[str]) -> None:
    axis.set_yticks(np.arange(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)


def _labels(key: Key) -> list[str]:
    return [arm.label for arm in key.arms]
