"""What the paired tests of one population say, in words the p-values allow."""

from __future__ import annotations

from collections.abc import Sequence

from report.methods import FEW_ARMS
from report.number_format import counted, listed, number, p_value
from report.statistics import ALPHA, Comparison, PairedTests

MOST_NAMED = 2 * FEW_ARMS
"""Longer lists of methods are counted, not named; Table 3 has them."""


def tests_sentence(family: PairedTests) -> str:
    """One sentence about the reference method against all others."""
    if family.smallest_p_holm >= ALPHA:
        return _too_few_patients(family)
    name = family.reference.label
    shown = [item for item in family.comparisons if item.significant]
    open_ = [item.other.label for item in family.comparisons if not item.significant]
    parts = []
    for word, sign in (("better", 1), ("worse", -1)):
        chosen = [item for item in shown if item.median_difference * sign > 0]
        if chosen:
            parts.append(f"is {word} than {_against(chosen)}")
    level = [item.other.label for item in shown if item.median_difference == 0]
    if level:
        parts.append(f"differs from {listed(level)} with a median difference of 0")
    if open_:
        others = listed(open_) if len(open_) <= MOST_NAMED else f"{len(open_)} other methods"
        parts.append(f"shows no significant difference from {others}")
    return (
        f"Per patient (n = {family.n}), {name} {listed(parts)} "
        "(medians of paired differences, Holm-corrected p, Table 3)."
    )


def _too_few_patients(family: PairedTests) -> str:
    items = family.comparisons
    name = family.reference.label
    if len(items) <= MOST_NAMED:
        differs = f"differs by a median of {listed([_from(item) for item in items])}"
    else:
        ordered = sorted(items, key=lambda item: item.median_difference)
        differs = f"differs by medians between {_from(ordered[0])} and {_from(ordered[-1])}"
    return (
        f"Per patient, {name} {differs}; with {counted(family.n, 'patient')} no corrected p-value "
        f"of these {len(items)} comparisons can fall below {number(family.smallest_p_holm, 3)}, so "
        "none can be called significant (Table 3)."
    )


def _from(item: Comparison) -> str:
    return f"{number(item.median_difference, 2, signed=True)} dB from {item.other.label}"


def _against(items: Sequence[Comparison]) -> str:
    if len(items) > MOST_NAMED:
        return f"{len(items)} methods"
    if len(items) > FEW_ARMS:
        return listed([item.other.label for item in items])
    return listed([_by(item) for item in items])


def _by(item: Comparison) -> str:
    p = p_value(item.p_holm)
    p = p if p.startswith("<") else f"= {p}"
    return f"{item.other.label} by {number(abs(item.median_difference), 2)} dB (p {p})"
