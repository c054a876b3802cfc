"""The natural division: by the site that holds the scans, or held them before another division."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from partitions.divisions.patients import Patient
from partitions.divisions.rules.interface import Assignment, Rule, Terms
from partitions.manifest import ORIGIN_SITE


@dataclass(frozen=True)
class Site:
    """No settings."""


def divide(patients: Sequence[Patient], _settings: Site, _terms: Terms) -> Assignment:
    """Every patient stays at their site."""
    sites: dict[str, list[Patient]] = {}
    for patient in patients:
        origin = patient.records[0].metadata.get(ORIGIN_SITE)
        sites.setdefault(str(origin or patient.site), []).append(patient)
    return Assignment(sites)


RULE = Rule("by the site that holds the scans", Site, divide)
