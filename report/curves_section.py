"""Convergence as HTML: validation per site, training losses, everything else folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from report.curve_figures import (
    CurvePanel,
    draw_panels,
    mean_panels,
    panels_per_site,
    validation_panels,
)
from report.curves import PERSONAL, CurveBook, curve_book, mean_curve
from report.diagnostic_rows import is_diagnostic
from report.highlights import LINES, Highlights
from report.markup import Markup, foldable, joined, note, tag
from report.methods import Method
from report.number_format import listed
from report.palette import line_styles
from report.records import SOURCE, Run
from report.strategy_multiples import draw_multiples

VALIDATION = (("val/psnr", "PSNR (dB)"), ("val/ssim", "SSIM"))
DECIMALS = {"val/psnr": 2, "val/ssim": 3}
RELAY = (("relay/psnr", "PSNR (dB)"), ("relay/ssim", "SSIM"))


LATE = (
    ", with the range of the second half of the rounds: earlier values, and arms far below all "
    "others, run out of the panels. "
)


@dataclass(frozen=True)
class _Content:
    """What every figure of the section is drawn from."""

    book: CurveBook
    lines: tuple[Method, ...]
    shown: Highlights
    computed: bool

    @property
    def many(self) -> bool:
        """Whether there are too many arms for every one to have a colour."""
        return not self.shown.show_all

    def figure(
        self,
        panels: Sequence[CurvePanel],
        caption: Markup,
        share_y: bool,
        named: Sequence[Method] | None = None,
    ) -> Markup:
        """Draw panels; ``named`` replaces the usual choice of lines with a colour of their own."""
        styles = line_styles(self.lines, self.shown.chosen(LINES) if named is None else named)
        titles = ", ".join(panel.title for panel in panels)
        drawn = draw_panels(panels, self.lines, styles, share_y, late=self.many)
        return _figure(drawn, titles, caption)


def curves_section(run: Run, shown: Highlights) -> Markup:
    """Figures 1 to 3, or the sentence that the run recorded no curves."""
    heading = tag("h2", "Convergence", id="curves")
    book = curve_book(run)
    if not book.metrics:
        text = "This run folder has no curves.csv, so no convergence curves are shown."
        return tag("section", heading, note(text))
    lines = tuple(method for method in shown.methods if method.kind != SOURCE)
    content = _Content(book, lines, shown, run.about.computed)
    parts = [
        _validation(content, metric, label, figure)
        for figure, (metric, label) in enumerate(VALIDATION, start=1)
    ]
    training = [name for name in book.metrics if name.startswith("train/")]
    if training:
        caption = _training_caption(content)
        parts.append(content.figure(mean_panels(book, training), caption, False))
    else:
        parts.append(note("Figure 3 is not shown: curves.csv holds no training losses."))
    return tag("section", heading, *parts, *_relay(content), *_others(content))


def _validation(content: _Content, metric: str, label: str, figure: int) -> Markup:
    if metric not in content.book.metrics:
        return note(f"Figure {figure} is not shown: curves.csv holds no {metric}.")
    computed = " of computed images" if content.computed else ""
    many = content.many
    number = f"{figure}a" if many else str(figure)
    caption = joined(
        [
            tag("b", f"Figure {number}. Validation {label}{computed} per round"),
            ", one y axis for all panels",
            LATE if many else ". ",
            _who(content),
            "The mean gives every federated site the same weight.",
            _rule(content, figure),
        ]
    )
    panels = validation_panels(content.book, content.lines, metric, label)
    drawn = content.figure(panels, caption, True)
    if not many:
        return drawn
    multiples = _multiples(content, metric, label, figure)
    # one metric tells convergence; the second is for those who look for it
    folded = metric != VALIDATION[0][0]
    return joined(
        [drawn, foldable(f"{label}, one panel per strategy", multiples) if folded else multiples]
    )


def _who(content: _Content) -> str:
    sentences = []
    kinds = {method.kind for method in content.lines}
    if "local" in kinds:
        sentences.append("Local only: the site's own model. ")
    if "personal" in kinds:
        sentences.append("Personal models: each on its own site. ")
    return "".join(sentences)


def _multiples(content: _Content, metric: str, label: str, figure: int) -> Markup:
    """A panel per federated strategy, mean over federated sites."""
    curves = {m: mean_curve(content.book, m, metric) for m in content.lines if m.is_federated}
    recorded = {method: curve for method, curve in curves.items() if len(curve)}
    caption = joined(
        [
            tag("b", f"Figure {figure}b. The same per strategy"),
            ", mean over federated sites",
            LATE,
            "Written in a panel: the value after its last recorded round.",
        ]
    )
    missing = [method.label for method in curves if method not in recorded]
    if missing:
        caption = joined([caption, f" Recorded nothing: {listed(missing)}."])
    if not recorded:
        return note(caption)
    drawn = draw_multiples(recorded, content.shown.reference, label, DECIMALS[metric])
    return _figure(drawn, ", ".join(method.label for method in recorded), caption)


def _training_caption(content: _Content) -> Markup:
    return joined(
        [
            tag("b", "Figure 3. Training losses per round"),
            ", mean over federated sites; each panel has its own y axis. A lower loss of one part "
            "of an adversarial pair is not by itself a better model.",
            _rule(content, 3),
        ]
    )


def _rule(content: _Content, figure: int) -> str:
    """Which arms have a colour of their own, where not all have; said once."""
    if not content.many:
        return ""
    if figure > 1 and VALIDATION[0][0] in content.book.metrics:
        return " Colours as in Figure 1a."
    shown = content.shown
    named = [shown.reference.label] if shown.reference else []
    named += [method.label for method in shown.best_global[:LINES]]
    named += [method.label for method in shown.best_personal[:1]]
    kinds = ["the reference"] if shown.reference else []
    kinds += ["the two best of the other global strategies"] if shown.best_global else []
    kinds += ["the best of the personal ones"] if shown.best_personal else []
    return (
        f" In colour: arms without federation, and {listed(named)}, that is {listed(kinds)} by "
        f"mean test PSNR over {shown.ranked_on.lower()} (Table 1a). Grey: all other federated arms."
    )


def _relay(content: _Content) -> list[Markup]:
    """What sites measured of the model handed to them inside a round; it has no mean over sites."""
    panels = [
        panel
        for metric, label in RELAY
        for panel in panels_per_site(content.book, content.lines, metric, label)
    ]
    if not panels:
        return []
    caption = joined(
        [
            "Where the model goes from site to site, each site validates what its predecessor "
            "handed over: panels show different models, so there is no mean over sites."
        ]
    )
    relayed = [m for m in content.lines if any(len(panel.curve(m)) for panel in panels)]
    return [foldable("Inside the relay", content.figure(panels, caption, False, relayed))]


def _others(content: _Content) -> list[Markup]:
    shown = {metric for metric, _ in VALIDATION}
    others = [
        name
        for name in content.book.metrics
        if name not in shown
        and not name.startswith(("train/", PERSONAL, "relay/"))
        and not is_diagnostic(name)
    ]
    if not others:
        return []
    caption = joined(["Other recorded quantities, mean over federated sites."])
    drawn = content.figure(mean_panels(content.book, others), caption, False)
    return [foldable("Other recorded quantities", drawn)]


def _figure(source: str, titles: str, caption: Markup) -> Markup:
    return tag(
        "figure",
        tag("img", src=source, alt=f"Curves over rounds: {titles}", class_="plot"),
        tag("figcaption", caption),
        class_="curves",
    )
