"""Convergence as HTML: validation per site, training losses, everything else folded."""

from __future__ import annotations

from collections.abc import Sequence

from report.curve_figures import CurvePanel, draw_panels, mean_panels, validation_panels
from report.curves import metric_names
from report.markup import Markup, foldable, joined, note, tag
from report.methods import Method
from report.palette import line_styles
from report.records import Run

VALIDATION = (("val/psnr", "PSNR (dB)"), ("val/ssim", "SSIM"))


def curves_section(run: Run, methods: Sequence[Method]) -> Markup:
    """Figures 1 to 3, or the sentence that the run recorded no curves."""
    heading = tag("h2", "Convergence", id="curves")
    names = metric_names(run)
    if not names:
        text = "This run folder has no curves.csv, so no convergence curves are shown."
        return tag("section", heading, note(text))
    parts: list[Markup] = []
    for figure, (metric, label) in enumerate(VALIDATION, start=1):
        parts.append(_validation(run, methods, metric, label, figure))
    training = [name for name in names if name.startswith("train/")]
    if training:
        parts.append(_figure(mean_panels(run, training), methods, _training_caption(), False))
    else:
        parts.append(note("Figure 3 is not shown: curves.csv holds no training losses."))
    shown = {*training, *(metric for metric, _ in VALIDATION)}
    others = [name for name in names if name not in shown]
    if others:
        caption = joined(["Other recorded quantities, mean over federated sites."])
        drawn = _figure(mean_panels(run, others), methods, caption, False)
        parts.append(foldable("Other recorded quantities", drawn))
    return tag("section", heading, *parts)


def _validation(
    run: Run, methods: Sequence[Method], metric: str, label: str, figure: int
) -> Markup:
    if metric not in metric_names(run):
        return note(f"Figure {figure} is not shown: curves.csv holds no {metric}.")
    computed = " of computed images" if run.about.computed else ""
    caption = joined(
        [
            tag("b", f"Figure {figure}. Validation {label}{computed} per round"),
            ", one y axis for all panels. Local only: the site's own model. The mean gives every "
            "federated site the same weight.",
        ]
    )
    return _figure(validation_panels(run, metric, label), methods, caption, True)


def _training_caption() -> Markup:
    return joined(
        [
            tag("b", "Figure 3. Training losses per round"),
            ", mean over federated sites; each panel has its own y axis. A lower loss of one part "
            "of an adversarial pair is not by itself a better model.",
        ]
    )


def _figure(
    panels: Sequence[CurvePanel], methods: Sequence[Method], caption: Markup, share_y: bool
) -> Markup:
    source = draw_panels(panels, methods, line_styles(tuple(methods)), share_y)
    titles = ", ".join(panel.title for panel in panels)
    return tag(
        "figure",
        tag("img", src=source, alt=f"Curves over rounds: {titles}", class_="plot"),
        tag("figcaption", caption),
        class_="curves",
    )
