"""Hospitals that did not acquire one of the contrasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedi2i.errors import ConfigError
from fedi2i.typed_config import word
from partitions.divisions.patients import Patient
from partitions.divisions.rules.interface import (
    ALL_SPLITS,
    TRAINING,
    Assignment,
    Rule,
    Terms,
)
from partitions.divisions.rules.one_domain import check_shares, shared_out, with_sequences

NOTHING = "none"


@dataclass(frozen=True)
class MissingContrast:
    """Who lacks what.

    Attributes:
        lacks: for every site the sequence it did not acquire, or ``none``.
        among: the sequences that there are; none takes all that any patient has.
        shares: parts of the patients, positive, one per site; none makes equal parts.
        splits: where sequences are taken away: in ``all`` splits, as such a hospital is, or in
            ``train`` alone, so that its validation and test patients can still be measured.
    """

    lacks: list[str] = field(default_factory=lambda: ["flair", "t2", NOTHING])
    among: list[str] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    splits: str = word(ALL_SPLITS, ALL_SPLITS, TRAINING)

    def __post_init__(self) -> None:
        """Refuse shares of another number of sites."""
        check_shares(self.shares, len(self.lacks))


def divide(patients: Sequence[Patient], settings: MissingContrast, terms: Terms) -> Assignment:
    """Shuffle the patients who have every sequence, and cut the list in order."""
    every = set(settings.among) or {name for patient in patients for name in patient.sequences}
    unknown = sorted({*settings.lacks} - every - {NOTHING})
    if unknown or not settings.lacks:
        raise ConfigError(
            f"lacks {list(settings.lacks)} must name, for every site, one of "
            f"{', '.join(sorted(every))}, or {NOTHING}"
        )
    able, left = with_sequences(patients, every)
    sites = shared_out(able, settings.shares or [1.0] * len(settings.lacks), terms)
    held = [tuple(sorted(every - {lacking})) for lacking in settings.lacks]
    return Assignment(
        sites, left, holds=dict(zip(sites, held, strict=True)), held_in=settings.splits
    )


RULE = Rule("sites that did not acquire one contrast", MissingContrast, divide)
