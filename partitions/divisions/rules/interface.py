"""What a rule of division offers, and what it returns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from partitions.divisions.patients import MISSING, SEVERAL, Patient

OWN_SITE, LEFT_OUT = "own", "left_out"
"""What becomes of patients about whom the metadata do not say: a site of their own, or none."""
ALL_SPLITS, TRAINING = "all", "train"
"""Where sequences are taken away. A site without a target cannot validate or test."""


@dataclass(frozen=True)
class Terms:
    """What every rule is told besides its settings.

    Attributes:
        rng: all draws come from it.
        least: fewest patients of a site.
    """

    rng: np.random.Generator
    least: int = 1

    def shuffled(self, patients: Sequence[Patient]) -> list[Patient]:
        """The patients in a drawn order."""
        return [patients[index] for index in self.rng.permutation(len(patients))]


@dataclass(frozen=True)
class Assignment:
    """Who goes where.

    Attributes:
        sites: the patients of every new site.
        left_over: how many patients go nowhere, by the reason.
        categories: patients by what the rule looks at, where their shares are worth writing down.
        holds: the sequences that a site is left with; a site that is not named keeps all.
        held_in: whether that concerns ``all`` splits or ``train`` alone.
        tries: divisions drawn until every site had its least number of patients.
    """

    sites: Mapping[str, Sequence[Patient]]
    left_over: Mapping[str, int] = field(default_factory=dict)
    categories: Mapping[str, Sequence[Patient]] = field(default_factory=dict)
    holds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    held_in: str = ALL_SPLITS
    tries: int = 1


@dataclass(frozen=True)
class Rule:
    """What a file of this folder offers.

    Attributes:
        help: how it divides, in some words.
        settings: the frozen record of its settings, with defaults; it raises ``ConfigError``.
        divide: the rule itself: patients in the order of their keys, a record of settings, terms.
            Every patient is at one site or counted in ``left_over``. Raises ``ConfigError`` where
            the settings and the patients do not fit.
    """

    help: str
    settings: type[Any]
    divide: Callable[[Sequence[Patient], Any, Terms], Assignment]


def numbered(groups: Sequence[Sequence[Patient]]) -> dict[str, Sequence[Patient]]:
    """Sites without a nature of their own: ``site-1``, ``site-2`` ..., as wide as needed."""
    width = len(str(len(groups)))
    return {f"site-{n:0{width}d}": group for n, group in enumerate(groups, start=1)}


def sites_of(groups: Mapping[str, Sequence[Patient]], prefix: str) -> dict[str, list[Patient]]:
    """A site for every category; those whose names come out alike are one site."""
    sites: dict[str, list[Patient]] = {}
    for value, group in groups.items():
        sites.setdefault(_site_for(value, prefix), []).extend(group)
    return sites


def _site_for(value: str, prefix: str) -> str:
    """A site's name for a value: ``1.5`` of ``field_strength`` becomes ``field_strength-1-5``.

    Names of sites have no dots, and a number alone would say nothing.
    """
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", value).strip("-_")
    named = plain and not plain[0].isdigit() and value not in (MISSING, SEVERAL)
    return plain if named else f"{prefix}-{plain or 'other'}"


def without_odd(
    groups: Mapping[str, Sequence[Patient]], missing: str, what: str
) -> tuple[dict[str, Sequence[Patient]], dict[str, int]]:
    """Leave out patients without a category.

    Args:
        groups: patients by category.
        missing: `OWN_SITE` keeps those whose metadata do not say, `LEFT_OUT` does not.
        what: the metadata that the categories come from, for the counts.

    Returns:
        The other groups, and how many were left out and why.
    """
    reasons = {SEVERAL: f"scans that differ in {what}"}
    if missing == LEFT_OUT:
        reasons[MISSING] = f"no {what}"
    kept = {name: group for name, group in groups.items() if name not in reasons}
    left = {reasons[name]: len(group) for name, group in groups.items() if name in reasons}
    return kept, left
