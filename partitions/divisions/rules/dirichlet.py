"""Label skew: every category of the metadata is spread over the sites by a Dirichlet draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedi2i.errors import ConfigError
from fedi2i.typed_config import number, word
from partitions.divisions.apportionment import cut, largest_remainder
from partitions.divisions.patients import Patient, categories_of
from partitions.divisions.rules.category import check_keys
from partitions.divisions.rules.interface import (
    LEFT_OUT,
    OWN_SITE,
    Assignment,
    Rule,
    Terms,
    numbered,
    without_odd,
)


@dataclass(frozen=True)
class Dirichlet:
    """What is skewed, and how much.

    Attributes:
        keys: keys of the metadata whose values are the categories.
        sites: how many.
        alpha: concentration: small ones make sites of one category, large ones equal sites.
        tries: divisions drawn before giving up.
        missing: what becomes of patients about whom the metadata do not say: ``own`` makes them a
            category.
        vectors: what one vector is drawn for. Per category, over the sites, as here; Hsu, Qi and
            Brown (2019, arXiv:1909.06335) draw one per site, over the categories, and fill sites
            of equal size.
    """

    keys: list[str] = field(default_factory=list)
    sites: int = number(4, low=2, most=10_000)
    alpha: float = number(0.5, above=True)
    tries: int = number(200, low=1, most=100_000)
    missing: str = word(OWN_SITE, OWN_SITE, LEFT_OUT)
    vectors: str = word("per category", "per category")


def divide(patients: Sequence[Patient], settings: Dirichlet, terms: Terms) -> Assignment:
    """Draw divisions until every site has its least number of patients.

    With that number enforced a small ``alpha`` no longer means what it says: of what was drawn, the
    least uneven remains. So the realised shares are written beside it.

    Raises:
        ConfigError: no division of the allowed number of tries has enough patients everywhere.
    """
    check_keys(patients, settings.keys)
    groups, left = without_odd(
        categories_of(patients, settings.keys), settings.missing, " or ".join(settings.keys)
    )
    smallest: list[int] = []
    for tries in range(1, settings.tries + 1):
        sites = _draw(list(groups.values()), settings, terms)
        smallest.append(min(map(len, sites)))
        if smallest[-1] >= terms.least:
            return Assignment(numbered(sites), left, groups, tries=tries)
    raise ConfigError(
        f"in none of {settings.tries} draws did all {settings.sites} sites have {terms.least} "
        f"patients (at best the smallest had {max(smallest)}); give a larger alpha than "
        f"{settings.alpha:g}, fewer sites, a smaller --least or more tries"
    )


def _draw(
    groups: Sequence[Sequence[Patient]], settings: Dirichlet, terms: Terms
) -> list[list[Patient]]:
    sites: list[list[Patient]] = [[] for _ in range(settings.sites)]
    for group in groups:
        shuffled = terms.shuffled(group)
        shares = terms.rng.dirichlet([settings.alpha] * settings.sites)
        pieces = cut(shuffled, largest_remainder(len(group), shares.tolist()))
        for site, piece in zip(sites, pieces, strict=True):
            site.extend(piece)
    return sites


RULE = Rule("categories spread unevenly over sites (Dirichlet)", Dirichlet, divide)
