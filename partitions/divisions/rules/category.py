"""By metadata: manufacturer, model, field strength, sex, region, country, anatomy, dose ..."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedi2i.errors import ConfigError
from fedi2i.typed_config import nearest, word
from partitions.divisions.patients import Patient, categories_of
from partitions.divisions.rules.interface import (
    LEFT_OUT,
    OWN_SITE,
    Assignment,
    Rule,
    Terms,
    sites_of,
    without_odd,
)


@dataclass(frozen=True)
class Category:
    """Which metadata make a site.

    Attributes:
        keys: keys of the metadata; several of them are looked at together.
        missing: what becomes of patients about whom they do not say.
    """

    keys: list[str] = field(default_factory=list)
    missing: str = word(LEFT_OUT, LEFT_OUT, OWN_SITE)


def divide(patients: Sequence[Patient], settings: Category, _terms: Terms) -> Assignment:
    """Every value is a site, and so is every combination of the values of several keys."""
    check_keys(patients, settings.keys)
    groups, left = without_odd(
        categories_of(patients, settings.keys), settings.missing, " or ".join(settings.keys)
    )
    return Assignment(sites_of(groups, settings.keys[0]), left, groups)


def check_keys(patients: Sequence[Patient], keys: Sequence[str]) -> None:
    """Refuse keys that no patient's metadata have.

    Raises:
        ConfigError: naming the key and the nearest.
    """
    known = {key for patient in patients for scan in patient.records for key in scan.metadata}
    if not keys:
        raise ConfigError(f"keys: name the metadata to divide by; {nearest('', known)}")
    for key in keys:
        if key not in known:
            raise ConfigError(f"no patient's metadata have '{key}'; {nearest(key, known)}")


RULE = Rule("by the values of metadata", Category, divide)
