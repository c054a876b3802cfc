"""The page of a matching study: which merges lose how much, and what is better than any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from report.figures.matching import draw_barriers, draw_paths, draw_rounds
from report.figures.style import as_address
from report.number_format import counted, number, percent
from report.numbers.over_seeds.matching import (
    FEWEST_SEEDS,
    MergeTable,
    PairedDifference,
    control_values,
    differences,
    last_round,
    merge_tables,
)
from report.page.provenance import flattened
from report.page.render import environment
from report.run.matching import MatchingStudy, merge_label, start_label

DECIMALS = 4
"""Of errors on [0, 1]."""


@dataclass(frozen=True)
class QuestionGroup:
    """The lines that answer one question."""

    question: str
    lines: tuple[PairedDifference, ...]


def render_matching(study: MatchingStudy) -> str:
    """The whole page as text; it refers to no other file or address."""
    found = differences(study)
    groups = _groups(found)
    last = f"after round {last_round(study)}"
    shown = [g for g in groups if "after round" not in g.question or g.question.endswith(last)]
    rounds = draw_rounds(study)
    return (
        environment()
        .get_template("matching.html")
        .render(
            study=study,
            seeds=study.seeds,
            summary=matching_summary(study),
            tables=merge_tables(study),
            shown=shown,
            folded=[group for group in groups if group not in shown],
            barriers=as_address(draw_barriers(study)) if _has_pairs(study) else None,
            paths=as_address(draw_paths(study)) if _has_pairs(study) else None,
            rounds=as_address(rounds) if rounds else None,
            controls=list(control_values(study).itertuples(index=False)),
            caption=table_caption,
            merge_label=merge_label,
            control=control_text,
            sign=sign_text,
            decimals=DECIMALS,
            few_seeds=len(study.seeds) < FEWEST_SEEDS,
            fewest_seeds=FEWEST_SEEDS,
            settings=flattened({k: v for k, v in study.design.items() if k != "manifests"}),
        )
    )


def matching_summary(study: MatchingStudy) -> list[str]:
    """What may be claimed: signs that held in every seed, as sentences with their intervals."""
    found = differences(study)
    if len(study.seeds) < FEWEST_SEEDS:
        return [
            f"{counted(len(study.seeds), 'seed')}: what is below is a description. A sign is "
            f"claimed where it held in every seed of {FEWEST_SEEDS} or more."
        ]
    held = [one for one in found if one.held and _leading(study, one)]
    if not held:
        return ["No sign of a difference in question held in every seed."]
    return [_sentence(one) for one in held]


def sign_text(one: PairedDifference) -> str:
    """In how many seeds the first way had the smaller error, e.g. ``lower in 4 of 5``."""
    seeds = len(one.per_seed)
    if one.lower == one.higher == 0:
        return f"equal in {seeds} of {seeds}"
    if one.lower >= one.higher:
        return f"lower in {one.lower} of {seeds}"
    return f"higher in {one.higher} of {seeds}"


def table_caption(table: MergeTable) -> str:
    """What a table of merges is about."""
    return f"{start_label(table.start)}, width {table.width:g}, {table.models} models"


def control_text(quantity: str, low: float, high: float) -> tuple[str, str]:
    """A control in words, and its smallest and largest value over all models."""
    words = {
        "identity_moved": "a model beside itself: channels that move",
        "planted_recovered": "its copy in another order: channels put right",
        "planted_l1_gap": "the copy put right: change of the L1 error",
        "shuffled_alone_l1_gap": "the copy alone, as it is: change of the L1 error",
        "shuffled_mean_l1_gap": "the mean of both without matching: change of the L1 error",
    }
    if quantity.startswith("noise_"):
        noise = quantity.split("_")[1]
        words[quantity] = f"its copy under noise of {noise} standard deviations: put right"
    if quantity.endswith("_gap"):
        values = [number(value, 6, signed=True) for value in (low, high)]
    else:
        values = [percent(value) for value in (low, high)]
    text = values[0] if values[0] == values[1] else f"{values[0]} to {values[1]}"
    return words.get(quantity, quantity), text


def _groups(found: list[PairedDifference]) -> list[QuestionGroup]:
    questions = dict.fromkeys(one.question for one in found)
    return [
        QuestionGroup(question, tuple(one for one in found if one.question == question))
        for question in questions
    ]


def _has_pairs(study: MatchingStudy) -> bool:
    of_width = study.table[study.table["width"] == study.width]
    return bool((of_width["quantity"] == "barrier").any())


def _leading(study: MatchingStudy, one: PairedDifference) -> bool:
    """Whether a difference answers a question of the study at its width, at the end of rounds."""
    if one.question.startswith("Which start"):
        return one.question.endswith(f"after round {last_round(study)}")
    if one.question.startswith("Do common"):
        return True
    about = one.question.startswith("Does matching") and "independent" in one.question
    return about and f"width {study.width:g}," in one.question


def _sentence(one: PairedDifference) -> str:
    interval = one.interval or (one.mean, one.mean)
    ends = [number(end, DECIMALS, signed=True) for end in interval]
    than = "a smaller" if one.lower else "a larger"
    return (
        f"{one.question.rstrip('?')}: {one.one} had {than} L1 error than {one.other} in all "
        f"{len(one.per_seed)} seeds (difference {number(one.mean, DECIMALS, signed=True)}, 95 % "
        f"interval {ends[0]} to {ends[1]})."
    )


def console_lines(study: MatchingStudy) -> Iterator[str]:
    """What the command prints."""
    yield from matching_summary(study)
    for one in differences(study):
        if _leading(study, one):
            mean = number(one.mean, DECIMALS, signed=True)
            yield f"{one.question} {one.one} minus {one.other}: {mean}, {sign_text(one)}"
