"""How a spent epsilon is named in files and told to people: in logs, on the console, in reports."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Context, Decimal

EPSILON = "privacy/"
"""What the names of these metrics begin with; they follow from settings, not from images."""
EPSILON_ROUND = f"{EPSILON}epsilon_round"
EPSILON_TOTAL = f"{EPSILON}epsilon_total"
LEAST_PATIENTS = f"{EPSILON}least_patients"
"""Beside an epsilon for patients: the fewest that a site has, as the job says, not its number."""
PROTECTS_NOBODY_ABOVE = 100.0
"""exp(100) bounds no odds that a person could tell from certainty."""
PROTECTS_NOBODY = "it shows the mechanism and protects nobody"
_STATED_DIGITS = 6


def stated_epsilon(value: float) -> float:
    """An epsilon as files state it: rounded up at the sixth digit.

    Digits behind it are the processor's, as sums of many small probabilities come out a little
    different on another one; what is written must not depend on who wrote it. Rounded up, it is
    still a bound. An infinite epsilon stays as it is.
    """
    if not math.isfinite(value):
        return value
    rounding = Context(prec=_STATED_DIGITS, rounding=ROUND_CEILING)
    return float(rounding.create_decimal(Decimal(repr(value))))


def epsilon_text(value: float) -> str:
    """An epsilon in three digits, large ones in whole numbers."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def with_verdict(value: float) -> str:
    """An epsilon with the sentence that belongs to it where it is beyond any protection."""
    verdict = f": {PROTECTS_NOBODY}" if value > PROTECTS_NOBODY_ABOVE else ""
    return f"epsilon {epsilon_text(value)}{verdict}"
