"""The scores as text for the console, as rows of a CSV file and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from report.number_format import NONE, counted, number, percent
from report.readers.agreement import Agreement
from report.readers.proportions import Proportion
from report.readers.scores import Pair, PreferenceScores, Scores, TuringScores

COLUMNS = (
    *("task", "measure", "reader", "arm", "other"),
    *("value", "low", "high", "count", "of", "patients"),
)
ALL = "all"
_TASK_NAMES = {"turing": "Visual Turing test", "preference": "Preference"}
_KAPPA_NAMES = {2: "Cohen's kappa"}


def share_text(share: Proportion) -> str:
    """``40 % [28, 58] (17 of 40)``, or a dash where nothing was judged."""
    if not share.of:
        return NONE
    ends = f"{number(100 * share.low, 0)}, {number(100 * share.high, 0)}"
    return f"{percent(share.share)} [{ends}] ({share.count} of {share.of})"


def agreement_text(agreement: Agreement) -> str:
    """``75 % of 12, kappa 0.50``, or a dash where nothing can be compared."""
    if not agreement.cases:
        return NONE
    return f"{percent(agreement.share)} of {agreement.cases}, kappa {number(agreement.kappa, 2)}"


def kappa_name(scores: Scores) -> str:
    """Whose kappa the agreement of all readers is."""
    return _KAPPA_NAMES.get(len(scores.readers), "Fleiss' kappa")


def console_text(scores: Scores) -> str:
    """What the command prints."""
    key = scores.key
    readers = ", ".join(reader.reader for reader in scores.readers)
    lines = [
        f"{key.title}: {counted(key.patients, 'patient')}, readers {readers}",
        f"items without an answer: {scores.unanswered}",
    ]
    if scores.turing is not None:
        lines += ["", *_turing_lines(scores, scores.turing)]
    if scores.preference is not None:
        lines += ["", *_preference_lines(scores, scores.preference)]
    lines += ["", *_agreement_lines(scores)]
    lines += [f"! {gap}" for gap in scores.gaps]
    return "\n".join(lines)


def csv_rows(scores: Scores) -> list[tuple[Any, ...]]:
    """Every number with its place, in the order of ``COLUMNS``; empty where it does not apply."""
    rows: list[tuple[Any, ...]] = []
    if scores.turing is not None:
        rows += _turing_rows(scores.turing, ALL)
    if scores.preference is not None:
        rows += _preference_rows(scores.preference)
    for reader in scores.readers:
        if reader.turing is not None:
            rows += _turing_rows(reader.turing, reader.reader)
        if reader.left is not None:
            rows.append(_share_row("preference", "left", reader.reader, "", reader.left))
        for task, items in reader.items.items():
            given = reader.answered[task]
            rows.append((task, "answered", reader.reader, "", "", "", "", "", given, items, ""))
            rows += _agreement_rows(task, "repeat", reader.reader, "", reader.repeats[task])
    for task, agreement in scores.agreement.items():
        rows += _agreement_rows(task, "agreement", ALL, "", agreement)
    for (task, one, other), agreement in scores.agreement_of_pairs.items():
        rows += _agreement_rows(task, "agreement", one, other, agreement)
    return rows


def as_json(scores: Scores) -> dict[str, Any]:
    """The scores as nested values; what is not defined is null.

    It names no patient: of the key there is what describes the study, and neither its sheets nor
    its seed.
    """
    key = scores.key
    content = {
        "study": key.study,
        "created": key.created,
        "release": key.release,
        "title": key.title,
        "computed": key.computed,
        "question": key.plan.question,
        "repeated": key.plan.repeated,
        "patients": key.patients,
        "arms": key.labels,
        "readers": [asdict(reader) for reader in scores.readers],
        "turing": scores.turing and asdict(scores.turing),
        "preference": scores.preference and asdict(scores.preference),
        "agreement": {task: asdict(one) for task, one in scores.agreement.items()},
        "agreement_of_pairs": [
            {"task": task, "readers": pair} | asdict(one)
            for (task, *pair), one in scores.agreement_of_pairs.items()
        ],
        "unanswered": scores.unanswered,
        "gaps": list(scores.gaps),
    }
    cleaned: dict[str, Any] = _without_nan(content)
    return cleaned


def _turing_lines(scores: Scores, turing: TuringScores) -> Iterator[str]:
    yield f"{_TASK_NAMES['turing']} (share [95 % interval])"
    yield f"  translated taken for real, all arms: {share_text(turing.rate)}"
    for arm, share in turing.arms.items():
        yield f"    {scores.key.labels[arm]}: {share_text(share)}"
    yield f"  sensitivity, translated called translated: {share_text(turing.sensitivity)}"
    yield f"  specificity, real called real: {share_text(turing.specificity)}"
    yield f"  right answers: {share_text(turing.correct)}"


def _preference_lines(scores: Scores, preference: PreferenceScores) -> Iterator[str]:
    labels = scores.key.labels
    yield f"{_TASK_NAMES['preference']} (logarithm of strength over {labels_first(scores)}'s)"
    for one in preference.strengths[1:]:
        interval = f"[{number(one.low, 2, signed=True)}, {number(one.high, 2, signed=True)}]"
        yield f"  {labels[one.arm]}: {number(one.log, 2, signed=True)} {interval}"
    if preference.no_strengths:
        yield f"  no strengths: {preference.no_strengths}"
    for pair in preference.pairs:
        yield f"  {pair_text(labels, pair)}"


def labels_first(scores: Scores) -> str:
    """Label of the arm that strengths are compared with."""
    return scores.key.arms[0].label


def pair_text(labels: Mapping[str, str], pair: Pair) -> str:
    """How two arms did, in a line."""
    return (
        f"{labels[pair.first]} preferred to {labels[pair.second]}: {share_text(pair.preferred)}, "
        f"and {pair.equal} without a difference"
    )


def _agreement_lines(scores: Scores) -> Iterator[str]:
    for task, agreement in scores.agreement.items():
        name = f"{_TASK_NAMES[task]}, between readers ({kappa_name(scores)})"
        yield f"{name}: {agreement_text(agreement)}"
    for reader in scores.readers:
        for task, agreement in reader.repeats.items():
            yield f"{_TASK_NAMES[task]}, {reader.reader} again: {agreement_text(agreement)}"


def _turing_rows(turing: TuringScores, reader: str) -> Iterator[tuple[Any, ...]]:
    yield _share_row("turing", "turing_rate", reader, ALL, turing.rate)
    for arm, share in turing.arms.items():
        yield _share_row("turing", "turing_rate", reader, arm, share)
    yield _share_row("turing", "sensitivity", reader, "", turing.sensitivity)
    yield _share_row("turing", "specificity", reader, "", turing.specificity)
    yield _share_row("turing", "correct", reader, "", turing.correct)


def _preference_rows(preference: PreferenceScores) -> Iterator[tuple[Any, ...]]:
    for pair in preference.pairs:
        yield _share_row(
            "preference", "preferred", ALL, pair.first, pair.preferred, other=pair.second
        )
        equal = ("", "", "", pair.equal, pair.equal + pair.preferred.of, "")
        yield ("preference", "equal", ALL, pair.first, pair.second, *equal)
    for one in preference.strengths:
        ends = (one.low, one.high, "", "", "")
        yield ("preference", "log_strength", ALL, one.arm, "", one.log, *ends)
        yield ("preference", "strength", ALL, one.arm, "", one.share, *[""] * 5)
    yield _share_row("preference", "left", ALL, "", preference.left)


def _share_row(
    task: str, measure: str, reader: str, arm: str, share: Proportion, other: str = ""
) -> tuple[Any, ...]:
    numbers = ["" if math.isnan(value) else value for value in (share.share, share.low, share.high)]
    return (task, measure, reader, arm, other, *numbers, share.count, share.of, share.patients)


def _agreement_rows(
    task: str, measure: str, reader: str, other: str, agreement: Agreement
) -> Iterator[tuple[Any, ...]]:
    for name, value in (("share", agreement.share), ("kappa", agreement.kappa)):
        told = "" if math.isnan(value) else value
        place = (task, f"{measure}_{name}", reader, "", other)
        yield (*place, told, "", "", "", agreement.cases, "")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return value
