"""Divide patients by a rule: a pure function of the patients, the settings and a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np

from fedi2i.errors import ConfigError
from fedi2i.typed_config import check_values, choose, record_from
from partitions.divisions.patients import Patient
from partitions.divisions.rules.catalogue import RULES
from partitions.divisions.rules.interface import Assignment, Terms

LEAST = 3
"""Patients with whom a site has training, validation and test patients."""
REFUSE, LEAVE_OUT = "refuse", "leave-out"
"""What becomes of a site with fewer patients than asked for."""


@dataclass(frozen=True)
class Division:
    """What was asked for, and who goes where.

    Attributes:
        rule: name of the rule.
        settings: the rule's record.
        seed: of its draws.
        least: patients that every site has at least.
        assignment: who goes where.
    """

    rule: str
    settings: Any
    seed: int
    least: int
    assignment: Assignment


def divide(
    patients: Sequence[Patient],
    rule: str,
    settings: Mapping[str, Any],
    seed: int,
    least: int = LEAST,
    small: str = REFUSE,
) -> Division:
    """Divide patients among sites.

    Args:
        patients: in any order; they are sorted by site and name first.
        rule: one of ``RULES``.
        settings: what differs from the rule's defaults.
        seed: the draws come from ``default_rng([seed, crc32(rule)])``: the same patients, rule,
            settings and seed give the same division with the same version of numpy.
        least: fewest patients of a site, at least 1.
        small: `REFUSE` or `LEAVE_OUT` smaller sites.

    Raises:
        ConfigError: an unknown rule or setting, or patients who do not suit them.
    """
    choose(rule, RULES, "--by")
    choose(small, (REFUSE, LEAVE_OUT), "--small")
    if seed < 0 or least < 1:
        raise ConfigError(f"seed {seed} must not be negative, and least {least} not below 1")
    record = record_from(RULES[rule].settings, settings, f"--setting of '{rule}'")
    check_values(record, f"--setting of '{rule}'")
    terms = Terms(np.random.default_rng([seed, crc32(rule.encode())]), least)
    ordered = sorted(patients, key=lambda patient: patient.key)
    try:
        assignment = RULES[rule].divide(ordered, record, terms)
    except ConfigError as error:
        raise ConfigError(f"by {rule}: {error}") from error
    return Division(rule, record, seed, least, _large_enough(assignment, rule, least, small))


def _large_enough(assignment: Assignment, rule: str, least: int, small: str) -> Assignment:
    """The division without sites that are too small, or a sentence about them."""
    sizes = {site: len(group) for site, group in assignment.sites.items()}
    lacking = {site: size for site, size in sizes.items() if size < least}
    kept = {site: group for site, group in assignment.sites.items() if site not in lacking}
    others = sum(sizes.values()) - sum(lacking.values())
    left = _counted({**assignment.left_over})
    if not kept or (lacking and small == REFUSE):
        named = ", ".join(f"'{site}' would have {size}" for site, size in sorted(lacking.items()))
        remedy = (
            f"give a smaller --least, or --small {LEAVE_OUT} to go on with the other {others}"
            if kept
            else "give a smaller --least, or divide otherwise"
        )
        raise ConfigError(
            f"by {rule}: every site must have {least} patients, but {named or 'there is no site'}"
            f"{left}; {remedy}"
        )
    if not lacking:
        return assignment
    reason = f"a site of fewer than {least} patients"
    gone = {reason: sum(lacking.values())}
    return replace(assignment, sites=kept, left_over={**assignment.left_over, **gone})


def _counted(left_over: Mapping[str, int]) -> str:
    """Who was left over, as a part of a sentence."""
    parts = ", ".join(f"{count} with {reason}" for reason, count in left_over.items())
    return f" (left over: {parts})" if parts else ""
