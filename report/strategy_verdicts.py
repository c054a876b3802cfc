"""Which strategies acted, in plain sentences; one that changed nothing is always named."""

from __future__ import annotations

from collections.abc import Sequence

from report.actions import StrategyActions
from report.diagnostics import SMALLEST_ACTION, StrategyDiagnosis, Verdict
from report.number_format import listed

Sentence = tuple[str, bool]
"""A sentence and whether it warns."""


def verdict_sentences(actions: StrategyActions) -> list[Sentence]:
    """What there is to say of all federated jobs, warnings first."""
    sentences = []
    idle = named(actions.jobs, Verdict.NOTHING)
    if idle:
        text = f"{nothing(idle)} Such a row of Table 1 says nothing about the strategy."
        sentences.append((text, True))
    strange = named(actions.jobs, Verdict.UNEXPECTED)
    if strange:
        text = (
            f"{listed(strange)}: expected to add nothing at sites or server, but a recorded ratio "
            f"or moved fraction is {SMALLEST_ACTION:g} or more. Find out why before reading the "
            "results."
        )
        sentences.append((text, True))
    if actions.equal_models:
        labels = listed([method.label for method in actions.equal_models])
        text = (
            f"{labels}: the models of all hospitals give equal values for every patient, so "
            "nothing of the model stayed at the hospitals in this run."
        )
        sentences.append((text, True))
    calm = _calm(actions)
    return [*sentences, (calm, False)] if calm else sentences


def nothing(idle: Sequence[str]) -> str:
    """The sentence about strategies that were expected to act and did not."""
    return (
        f"{listed(list(idle))} changed nothing in this run: every recorded ratio and moved "
        f"fraction is 0 or below {SMALLEST_ACTION:g}."
    )


def named(jobs: Sequence[StrategyDiagnosis], verdict: Verdict) -> list[str]:
    """Labels of the jobs with a verdict."""
    return [job.label for job in jobs if job.verdict == verdict]


def _calm(actions: StrategyActions) -> str:
    texts = {
        Verdict.ACTED: "Acted, with a ratio or moved fraction of "
        f"{SMALLEST_ACTION:g} or more: {{}}.",
        Verdict.NO_TERM: "Without a term of their own at sites or server, so nothing is expected "
        "of them here: {}.",
        Verdict.NOT_RECORDED: "Without recorded diagnostics, so this report cannot say whether "
        "they acted: {}.",
        Verdict.NOT_KNOWN: "Not known to this report, and no action recorded: {}.",
    }
    found = {verdict: named(actions.jobs, verdict) for verdict in texts}
    parts = [texts[verdict].format(listed(labels)) for verdict, labels in found.items() if labels]
    if actions.equal and actions.reference is not None:
        labels = [method.label for method in actions.equal]
        parts.append(
            f"Equal to {actions.reference.label} in every test value, for every patient and "
            f"metric: {listed(labels)}."
        )
    return " ".join(parts)
