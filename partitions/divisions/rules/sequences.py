"""By what was acquired: patients with the same modalities or contrasts are one site's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from partitions.divisions.patients import Patient
from partitions.divisions.rules.interface import Assignment, Rule, Terms, sites_of


@dataclass(frozen=True)
class Sequences:
    """No settings."""


def divide(patients: Sequence[Patient], _settings: Sequences, _terms: Terms) -> Assignment:
    """Every set of sequences that patients hold is a site, called after it: ``flair-t1``."""
    groups: dict[str, list[Patient]] = {}
    for patient in patients:
        groups.setdefault(" ".join(sorted(patient.sequences)), []).append(patient)
    return Assignment(sites_of(dict(sorted(groups.items())), "sequences"), categories=groups)


RULE = Rule("by the sequences that a patient has", Sequences, divide)
