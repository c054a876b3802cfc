"""Sites that differ in size and in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedi2i.errors import ConfigError
from partitions.divisions.apportionment import cut, largest_remainder
from partitions.divisions.patients import Patient
from partitions.divisions.rules.interface import Assignment, Rule, Terms, numbered


@dataclass(frozen=True)
class Quantity:
    """How large the sites are.

    Attributes:
        shares: parts of all patients, positive; they need not sum to 1.
    """

    shares: list[float] = field(default_factory=lambda: [0.4, 0.3, 0.2, 0.1])

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        if not self.shares or not all(0 < share < float("inf") for share in self.shares):
            raise ConfigError(f"shares {list(self.shares)} must be positive numbers, one per site")


def divide(patients: Sequence[Patient], settings: Quantity, terms: Terms) -> Assignment:
    """Shuffle the patients once and cut the list in the order of the shares."""
    sizes = largest_remainder(len(patients), settings.shares)
    return Assignment(numbered(cut(terms.shuffled(patients), sizes)))


RULE = Rule("sites of given sizes", Quantity, divide)
