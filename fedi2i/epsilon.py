"""How a spent epsilon is named in files and told to people: in logs, on the console, in reports."""

from __future__ import annotations

EPSILON = "privacy/"
"""What the names of these metrics begin with; they follow from settings, not from images."""
EPSILON_ROUND = f"{EPSILON}epsilon_round"
EPSILON_TOTAL = f"{EPSILON}epsilon_total"
LEAST_PATIENTS = f"{EPSILON}least_patients"
"""Beside an epsilon for patients: the fewest that a site has, as the job says, not its number."""
PROTECTS_NOBODY_ABOVE = 100.0
"""exp(100) bounds no odds that a person could tell from certainty."""
PROTECTS_NOBODY = "it shows the mechanism and protects nobody"


def epsilon_text(value: float) -> str:
    """An epsilon in three digits, large ones in whole numbers."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def with_verdict(value: float) -> str:
    """An epsilon with the sentence that belongs to it where it is beyond any protection."""
    verdict = f": {PROTECTS_NOBODY}" if value > PROTECTS_NOBODY_ABOVE else ""
    return f"epsilon {epsilon_text(value)}{verdict}"
