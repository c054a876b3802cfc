"""Alike on purpose: sites of equal size and with equal parts of what will be reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedi2i.typed_config import number
from partitions.divisions.patients import Patient, categories_of
from partitions.divisions.rules.category import check_keys
from partitions.divisions.rules.interface import Assignment, Rule, Terms, numbered


@dataclass(frozen=True)
class Iid:
    """How many sites, and what they have equal parts of.

    Attributes:
        sites: how many.
        stratify: keys of the metadata of which every site has its part, as far as whole patients
            allow; none draws from all patients alike.
    """

    sites: int = number(4, low=1, most=10_000)
    stratify: list[str] = field(default_factory=list)


def divide(patients: Sequence[Patient], settings: Iid, terms: Terms) -> Assignment:
    """Shuffle the patients of every stratum, and deal them all out in turn.

    Sizes of sites differ by one patient at most, and so does each stratum's part of a site.
    """
    if settings.stratify:
        check_keys(patients, settings.stratify)
    strata = categories_of(patients, settings.stratify)
    dealt = [patient for group in strata.values() for patient in terms.shuffled(group)]
    groups = [dealt[first :: settings.sites] for first in range(settings.sites)]
    return Assignment(numbered(groups), categories=strata if settings.stratify else {})


RULE = Rule("equal sites, each with its part of every stratum", Iid, divide)
