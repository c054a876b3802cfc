"""Hospitals that acquire one of the two modalities alone, for unpaired training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedi2i.errors import ConfigError
from fedi2i.typed_config import word
from partitions.divisions.apportionment import cut, largest_remainder
from partitions.divisions.patients import Patient
from partitions.divisions.rules.interface import (
    ALL_SPLITS,
    TRAINING,
    Assignment,
    Rule,
    Terms,
    numbered,
)


@dataclass(frozen=True)
class OneDomain:
    """Who holds what.

    Attributes:
        holds: for every site the sequences it is left with, joined by ``+``: ``t1``, ``t1+t2``.
        shares: parts of the patients, positive, one per site; none makes equal parts.
        splits: where sequences are taken away: in ``all`` splits, as such a hospital is, or in
            ``train`` alone, so that its validation and test patients can still be measured.
    """

    holds: list[str] = field(default_factory=lambda: ["t1", "t2", "t1+t2"])
    shares: list[float] = field(default_factory=list)
    splits: str = word(ALL_SPLITS, ALL_SPLITS, TRAINING)

    def __post_init__(self) -> None:
        """Refuse sites without a sequence, and shares of another number of sites."""
        if not self.holds or not all(all(held.split("+")) for held in self.holds):
            raise ConfigError(f"holds {list(self.holds)} must name the sequences of every site")
        check_shares(self.shares, len(self.holds))


def divide(patients: Sequence[Patient], settings: OneDomain, terms: Terms) -> Assignment:
    """Shuffle the patients who have all of these sequences, and cut the list in order."""
    held = [tuple(text.split("+")) for text in settings.holds]
    needed = {name for names in held for name in names}
    able, left = with_sequences(patients, needed)
    sites = shared_out(able, settings.shares or [1.0] * len(held), terms)
    return Assignment(
        sites, left, holds=dict(zip(sites, held, strict=True)), held_in=settings.splits
    )


def with_sequences(
    patients: Sequence[Patient], needed: set[str]
) -> tuple[list[Patient], dict[str, int]]:
    """The patients who have all of these sequences, and the count of the others.

    Raises:
        ConfigError: there are none.
    """
    able = [patient for patient in patients if needed <= patient.sequences]
    text = ", ".join(sorted(needed))
    if not able:
        known = sorted({name for patient in patients for name in patient.sequences})
        raise ConfigError(f"no patient has all of {text}; sequences here: {', '.join(known)}")
    lacking = len(patients) - len(able)
    return able, {f"not all of {text}": lacking} if lacking else {}


def shared_out(
    patients: Sequence[Patient], shares: Sequence[float], terms: Terms
) -> dict[str, Sequence[Patient]]:
    """Shuffle the patients and cut the list into sites."""
    sizes = largest_remainder(len(patients), shares)
    return numbered(cut(terms.shuffled(patients), sizes))


def check_shares(shares: Sequence[float], sites: int) -> None:
    """Refuse shares that are no positive numbers, one per site; none at all are allowed.

    Raises:
        ConfigError: naming them.
    """
    if shares and (len(shares) != sites or not all(0 < share < float("inf") for share in shares)):
        raise ConfigError(f"shares {list(shares)} must be {sites} positive numbers, one per site")


RULE = Rule("sites that hold one domain alone", OneDomain, divide)
