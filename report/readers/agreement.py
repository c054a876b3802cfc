"""How far readers agree with each other and with themselves, beyond chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """Agreement on a number of cases.

    Attributes:
        cases: judged by all that are compared.
        share: of the pairs of judgements, those that are equal; NaN without a case.
        kappa: beyond chance; NaN where it is not defined, as all judgements are the same.
    """

    cases: int
    share: float
    kappa: float


def cohen(first: Sequence[str], second: Sequence[str]) -> Agreement:
    """Two raters, or one rater twice (Cohen 1960, doi:10.1177/001316446002000104).

    Args:
        first: a judgement for each case.
        second: the other ones, in the same order.
    """
    cases = len(first)
    if not cases:
        return Agreement(0, math.nan, math.nan)
    share = sum(one == other for one, other in zip(first, second, strict=True)) / cases
    one, other = Counter(first), Counter(second)
    chance = sum(one[answer] * other[answer] for answer in one) / cases**2
    return Agreement(cases, share, _beyond(share, chance))


def fleiss(judgements: Sequence[Sequence[str]]) -> Agreement:
    """Two or more raters (Fleiss 1971, doi:10.1037/h0031619).

    Args:
        judgements: for each case those of all raters, equally many, two or more.
    """
    if not judgements:
        return Agreement(0, math.nan, math.nan)
    cases, raters = len(judgements), len(judgements[0])
    equal = sum(count * (count - 1) for case in judgements for count in Counter(case).values())
    share = equal / (cases * raters * (raters - 1))
    everything = Counter(answer for case in judgements for answer in case)
    chance = sum((count / (cases * raters)) ** 2 for count in everything.values())
    return Agreement(cases, share, _beyond(share, chance))


def _beyond(share: float, chance: float) -> float:
    return (share - chance) / (1 - chance) if chance < 1 else math.nan
