"""Did the strategies act? Table 4, the sentences above it, and what moved channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from report.figures.channels import (
    draw_group_moves,
    draw_moved_curves,
    group_labels,
    group_moves,
    moved_curves,
)
from report.number_format import listed
from report.numbers.strategy_effects import SMALLEST_ACTION, StrategyEffects, Verdict
from report.run.records import Run

WARNINGS = (Verdict.NOTHING, Verdict.UNMATCHABLE, Verdict.UNEXPECTED, Verdict.DIVERGED)

Sentence = tuple[str, bool]
"""A sentence and whether it warns."""


@dataclass(frozen=True)
class ChannelFigure:
    """A drawn figure of moved channels.

    Attributes:
        source: ``data:`` address of the image.
        labels: of the arms it shows.
    """

    source: str
    labels: list[str]


@dataclass(frozen=True)
class StrategiesSection:
    """Table 4, Figures 4 and 5.

    Attributes:
        effects: what the table shows.
        sentences: what stands above it, warnings first.
        moved: Figure 4, or None.
        groups: Figure 5, or None.
        group_names: short name of every channel group of Figure 5 -> its full name.
    """

    effects: StrategyEffects
    sentences: list[Sentence]
    moved: ChannelFigure | None
    groups: ChannelFigure | None
    group_names: Mapping[str, str]


def strategies_section(run: Run, effects: StrategyEffects) -> StrategiesSection:
    """Judge the strategies and draw what they moved."""
    moved = groups = None
    names: dict[str, str] = {}
    curves = moved_curves(run, effects.jobs)
    if curves:
        moved = ChannelFigure(draw_moved_curves(curves), [arm.label for arm in curves])
    maps = group_moves(run, effects.jobs)
    if maps:
        groups = ChannelFigure(draw_group_moves(maps), [arm.label for arm in maps])
        names = {short: full for full, short in group_labels(maps[0].groups).items()}
    return StrategiesSection(effects, verdict_sentences(effects), moved, groups, names)


def verdict_sentences(effects: StrategyEffects) -> list[Sentence]:
    """What there is to say of all federated jobs, warnings first."""
    warnings = []
    idle = effects.labels(Verdict.NOTHING)
    if idle:
        warnings.append(
            f"{changed_nothing(idle)} Such a row of Table 1 says nothing about the strategy."
        )
    pinned = effects.labels(Verdict.UNMATCHABLE)
    if pinned:
        warnings.append(
            f"{listed(pinned)}: no hidden channel of these networks can be matched, so nothing "
            "could move. The result is that of a mean without matching, and says nothing about "
            "the strategy."
        )
    strange = effects.labels(Verdict.UNEXPECTED)
    if strange:
        warnings.append(
            f"{listed(strange)}: expected to add nothing at sites or server, but a recorded ratio "
            f"or moved fraction is {SMALLEST_ACTION:g} or more. Find out why before reading the "
            "results."
        )
    if effects.equal_models:
        labels = listed([row.label for row in effects.equal_models])
        warnings.append(
            f"{labels}: the models of all sites give equal values for every patient, so "
            "nothing of the model stayed at the sites in this run."
        )
    calm = _calm_sentences(effects)
    return [(text, True) for text in warnings] + ([(" ".join(calm), False)] if calm else [])


def changed_nothing(idle: Sequence[str]) -> str:
    """The sentence about strategies that were expected to act and did not."""
    return (
        f"{listed(idle)} changed nothing in this run: every recorded ratio and moved "
        f"fraction is 0 or below {SMALLEST_ACTION:g}."
    )


def _calm_sentences(effects: StrategyEffects) -> list[str]:
    texts = {
        Verdict.ACTED: "Acted, with a ratio or moved fraction of "
        f"{SMALLEST_ACTION:g} or more: {{}}.",
        Verdict.NO_TERM: "Without a term of their own at sites or server, so nothing is expected "
        "of them here: {}.",
        Verdict.NOT_RECORDED: "Without recorded diagnostics, so this report cannot say whether "
        "they acted: {}.",
        Verdict.NOT_SAID: "No action recorded, and the run does not say whether one is expected: "
        "{}.",
        Verdict.DIVERGED: "Diverged, so this report cannot say whether they acted: {}.",
    }
    found = {text: effects.labels(verdict) for verdict, text in texts.items()}
    sentences = [text.format(listed(labels)) for text, labels in found.items() if labels]
    if effects.jobs and effects.says_nothing:
        sentences.insert(0, "This run does not say what its strategies do.")
    if effects.equal and effects.reference is not None:
        labels = listed([row.label for row in effects.equal])
        sentences.append(
            f"Equal to {effects.reference.label} in every test value, for every patient and "
            f"metric: {labels}."
        )
    return sentences
