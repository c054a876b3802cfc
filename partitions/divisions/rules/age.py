"""By age: bands with given edges, or as many bands as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from fedi2i.errors import ConfigError
from fedi2i.typed_config import number, word
from partitions.divisions.patients import MISSING, Patient
from partitions.divisions.rules.interface import (
    LEFT_OUT,
    OWN_SITE,
    Assignment,
    Rule,
    Terms,
    without_odd,
)


@dataclass(frozen=True)
class Age:
    """Which ages make a site.

    Attributes:
        edges: years, rising; two of them enclose a band, [a, b), the last one [a, b].
        bands: how many bands, where no edges are given: cut at quantiles of the distinct ages.
        missing: what becomes of patients whose age is not known; it is never taken for 0.
    """

    edges: list[float] = field(default_factory=list)
    bands: int = number(3, low=2, most=50)
    missing: str = word(LEFT_OUT, LEFT_OUT, OWN_SITE)


def divide(patients: Sequence[Patient], settings: Age, _terms: Terms) -> Assignment:
    """Every band is a site, called after it: ``age-40-60``."""
    ages = {patient.key: patient.age() for patient in patients}
    edges = settings.edges or quantile_edges(list(ages.values()), settings.bands)
    _check(edges)
    names = [f"age-{_plain(low)}-{_plain(high)}" for low, high in pairwise(edges)]
    bands: dict[str, list[Patient]] = {name: [] for name in names}
    outside = 0
    for patient in patients:
        age = ages[patient.key]
        if age is None:
            bands.setdefault(MISSING, []).append(patient)
        elif (band := band_of(age, edges)) is None:
            outside += 1
        else:
            bands[names[band]].append(patient)
    kept, left = without_odd(bands, settings.missing, "age")
    sites = {f"age-{MISSING}" if name == MISSING else name: group for name, group in kept.items()}
    if outside:
        left[f"an age outside {edges[0]:g} to {edges[-1]:g}"] = outside
    return Assignment(sites, left, sites)


def band_of(age: float, edges: Sequence[float]) -> int | None:
    """The band of an age, counted from 0: left-closed, the last one closed; None if outside."""
    if not edges[0] <= age <= edges[-1]:
        return None
    return min(int(np.searchsorted(edges, age, side="right")) - 1, len(edges) - 2)


def quantile_edges(ages: Sequence[float | None], bands: int) -> list[float]:
    """Edges at the quantiles of the distinct ages, so that no age fills two bands.

    Raises:
        ConfigError: there are fewer distinct ages than bands.
    """
    distinct = sorted({age for age in ages if age is not None})
    if len(distinct) < bands:
        raise ConfigError(
            f"{len(distinct)} distinct ages cannot make {bands} bands; ask for fewer, or give edges"
        )
    return [float(edge) for edge in np.quantile(distinct, np.linspace(0, 1, bands + 1))]


def _check(edges: Sequence[float]) -> None:
    if len(edges) < 2 or any(low >= high for low, high in pairwise(edges)):
        raise ConfigError(f"edges {list(edges)} must be two or more rising numbers of years")


def _plain(edge: float) -> str:
    return f"{edge:.4g}".replace(".", "_")


RULE = Rule("by bands of age", Age, divide)
