"""How far sites are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any
from zlib import crc32

import numpy as np

from partitions.divisions.patients import MISSING
from partitions.heterogeneity.discrepancy import FEWEST, PERMUTATIONS, discrepancy
from partitions.heterogeneity.intensities import wasserstein
from partitions.heterogeneity.sites import SiteView, shown_categories
from partitions.preparation.configuration import DOMAINS
from partitions.preparation.intensities import Scale


@dataclass(frozen=True)
class Distance:
    """Two sites in one domain.

    Attributes:
        one, other: the sites.
        domain: ``source`` or ``target``.
        wasserstein: between the sites' histograms, in parts of the intensity range.
        mmd: the squared maximum mean discrepancy of the patients' features; None where these were
            not in one place, or a site has a single patient.
        p: of as large an ``mmd`` by chance, or None.
        in_unit: ``wasserstein`` in the unit of the domain's values; None where they have none.
        unit: e.g. ``HU``, or "".
    """

    one: str
    other: str
    domain: str
    wasserstein: float
    mmd: float | None = None
    p: float | None = None
    in_unit: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Comparison:
    """All sites of a data set.

    Attributes:
        dataset: its name.
        views: the sites, in order of their names.
        distances: between every two of them.
        tests: what of the patients differs more than by chance, described by a test's name, its
            statistic and p. They describe the sites and prove nothing: many are made.
        settings: how images were prepared; empty where none were looked at.
        seed: of the permutations.
        scales: of the domains that have one scale for all volumes.
    """

    dataset: str
    views: tuple[SiteView, ...]
    distances: tuple[Distance, ...]
    tests: Mapping[str, tuple[str, float, float]]
    settings: Mapping[str, Any]
    seed: int
    scales: Mapping[str, Scale] = field(default_factory=dict)


def compare(
    dataset: str,
    views: Sequence[SiteView],
    settings: Mapping[str, Any],
    seed: int,
    permutations: int = PERMUTATIONS,
    scales: Mapping[str, Scale] | None = None,
) -> Comparison:
    """Compare sites, every two of them.

    Args:
        dataset: the data set's name.
        views: the sites.
        settings: how their images were prepared, for the record.
        seed: of the permutations; each pair has draws of its own.
        permutations: how many per pair.
        scales: of the domains that have one scale for all volumes, as a CT's window in HU.
    """
    ordered = tuple(sorted(views, key=lambda view: view.site))
    distances = tuple(
        _with_unit(_distance(one, other, domain, seed, permutations), (scales or {}).get(domain))
        for domain in DOMAINS
        for one, other in combinations(ordered, 2)
        if domain in one.images and domain in other.images
    )
    return Comparison(
        dataset, ordered, distances, _tests(ordered), settings, seed, scales=dict(scales or {})
    )


def _distance(
    one: SiteView, other: SiteView, domain: str, seed: int, permutations: int
) -> Distance:
    first, second = one.images[domain], other.images[domain]
    apart = wasserstein(first.histogram, second.histogram)
    if min(len(first.features), len(second.features)) < FEWEST:
        return Distance(one.site, other.site, domain, apart)
    rng = np.random.default_rng(
        [seed, *(crc32(t.encode()) for t in (one.site, other.site, domain))]
    )
    mmd, p = discrepancy(first.features, second.features, rng, permutations)
    return Distance(one.site, other.site, domain, apart, mmd, p)


def _with_unit(distance: Distance, scale: Scale | None) -> Distance:
    """Intensities are values divided by the span of their scale, and so are their distances."""
    if scale is None or not scale.unit:
        return distance
    return replace(distance, in_unit=distance.wasserstein * scale.span, unit=scale.unit)


def _tests(views: Sequence[SiteView]) -> dict[str, tuple[str, float, float]]:
    """Kruskal and Wallis's test of ages, Pearson's of categories, over all sites at once."""
    # Imported here, as scipy.stats takes a second.
    from scipy.stats import chi2_contingency, kruskal

    found: dict[str, tuple[str, float, float]] = {}
    ages = [view.ages.values for view in views if view.ages.values]
    if len(ages) > 1 and len({age for group in ages for age in group}) > 1:
        statistic, p = kruskal(*ages)
        found["age"] = ("Kruskal-Wallis", float(statistic), float(p))
    for key, shown in shown_categories(views).items():
        values = [value for value in shown if value != MISSING]
        table = np.array(
            [[view.categories.get(key, {}).get(v, 0) for v in values] for view in views]
        )
        table = table[table.sum(axis=1) > 0]
        if len(table) > 1:
            result = chi2_contingency(table)
            found[key] = ("chi-squared", float(result[0]), float(result[1]))
    return found
