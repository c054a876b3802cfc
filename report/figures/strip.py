"""A strip of one patient: source, translation, target and absolute error, with their names."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from report.figures.pictures import ERROR_COLOURS, absolute_error, content_box
from report.figures.style import STYLE
from report.run.records import ShownWindow, Slice


@dataclass(frozen=True)
class Strip:
    """What a strip shows.

    Attributes:
        source: input slice in [0, 1], row 0 anterior.
        prediction: the translated slice.
        target: the slice to be reached.
        mask: where metrics look, or None.
        method: label of the model that translated.
        title: which patient this is; its last words say that data are computed where they are.
        below_source: measured values of the source.
        below_prediction: measured values of the translation.
        window: upper end of the error's colours, in (0, 1].
        shown: the values of black and white.
    """

    source: Slice
    prediction: Slice
    target: Slice
    mask: Slice | None
    method: str
    title: str
    below_source: str
    below_prediction: str
    window: float
    shown: ShownWindow


def draw_strip(strip: Strip, width: float) -> Figure:
    """Four pictures beside each other and the colours of the error.

    Args:
        strip: the pictures and their texts.
        width: in inches.
    """
    box = content_box(strip.mask, strip.target.shape)
    error = absolute_error(strip.prediction, strip.target, strip.mask)
    pictures = (
        ("Source", strip.source, strip.below_source),
        (f"Translated by {strip.method}", strip.prediction, strip.below_prediction),
        ("Target", strip.target, ""),
        ("Absolute error", error, ""),
    )
    rows, columns = strip.target[box].shape
    height = width / 4.35 * rows / columns + 0.75
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.suptitle(strip.title, fontsize=8.5)
        axes = figure.subplots(1, len(pictures))
        for axis, (title, picture, below) in zip(axes, pictures, strict=True):
            is_error = picture is error
            axis.imshow(
                picture[box],
                cmap=ERROR_COLOURS if is_error else "gray",
                vmin=0.0,
                vmax=strip.window if is_error else 1.0,
            )
            axis.set_title(title)
            axis.set_xlabel(below)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        colours = ScalarMappable(Normalize(0.0, strip.window), ERROR_COLOURS)
        bar = figure.colorbar(
            colours, ax=axes[-1], fraction=0.05, pad=0.03, ticks=[0.0, strip.window]
        )
        if strip.shown.unit:
            largest = f"{strip.shown.error(strip.window):g} {strip.shown.unit}"
            bar.ax.set_yticklabels(["0", largest])
            figure.supxlabel(f"black to white: {strip.shown.text}", fontsize=7)
        return figure
