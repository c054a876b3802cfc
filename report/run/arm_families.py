"""Arms that belong to a site: families of models, one per site, and what makes a family sound.

There is one mechanism for all of them. Local models need no keys in ``run.json``: their name,
``local-<site>``, says their site. Personal models of a federated strategy are called
``<strategy>@<site>`` and say their family and site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from fedi2i.errors import DataError
from report.run.records import (
    CENTRALISED,
    ENSEMBLE,
    LOCAL_ONLY,
    OF_SITE,
    REGRESSION,
    UNTRAINED,
    Arm,
    RunDescription,
)

LOCAL_PREFIX = "local-"
RESERVED_FAMILIES = (*UNTRAINED, CENTRALISED, REGRESSION, ENSEMBLE)


@dataclass(frozen=True)
class Membership:
    """Which family a model belongs to, and at which site.

    Attributes:
        family: name of the family.
        label: of the family, as shown.
        site: the model's site.
        model_label: of this one model, as shown.
    """

    family: str
    label: str
    site: str
    model_label: str


def family_of(
    name: str, label: str, family: str | None, site: str | None, where: str
) -> Membership | None:
    """The family of an arm, or None for an arm that belongs to no site.

    Args:
        name: the arm's name.
        label: its label in ``run.json``; for personal models that of the family.
        family: its key ``family``.
        site: its key ``site``.
        where: the entry, for error messages.

    Raises:
        DataError: name, family and site do not fit each other.
    """
    if name.startswith(LOCAL_PREFIX):
        own = name.removeprefix(LOCAL_PREFIX)
        if (family or LOCAL_ONLY, site or own) != (LOCAL_ONLY, own):
            raise DataError(
                f"{where}: arm '{name}' is the local model of '{own}' by its name, but says family "
                f"'{family}', site '{site}'; leave both keys out"
            )
        return Membership(LOCAL_ONLY, "Local only", own, label)
    if family is None and site is None:
        if OF_SITE in name:
            raise DataError(
                f"{where}: arm '{name}' is named like the model of one site but has no keys "
                "'family' and 'site'; write both"
            )
        return None
    if family is None or site is None:
        missing = "family" if family is None else "site"
        raise DataError(f"{where}: arm '{name}' has no key '{missing}'; write both or neither")
    if not name.endswith(f"{OF_SITE}{site}") or name == f"{OF_SITE}{site}":
        raise DataError(
            f"{where}: arm '{name}' says site '{site}'; name it <strategy>{OF_SITE}{site}"
        )
    if family == LOCAL_ONLY:
        raise DataError(
            f"{where}: family '{family}' is kept for arms called {LOCAL_PREFIX}<site>; give the "
            f"family of '{name}' another name"
        )
    return Membership(family, label, site, f"{label}: {site}")


def check_families(about: RunDescription, where: str) -> None:
    """Refuse families that would give a wrong row.

    Raises:
        DataError: a site that is unknown, unseen or in a family twice; a family that is named
            like an arm; members that differ in what they say of the whole family.
    """
    unseen = {site.name: site.unseen for site in about.sites}
    members = [arm for arm in about.arms if arm.family is not None]
    for arm in members:
        _check_site(arm, unseen, where)
    for family, arms in groupby(sorted(members, key=_family), key=_family):
        _check_family(family, list(arms), {arm.name for arm in about.arms}, where)


def _family(arm: Arm) -> str:
    return arm.family or ""


def _check_site(arm: Arm, unseen: dict[str, bool], where: str) -> None:
    if arm.site not in unseen:
        raise DataError(
            f"{where}: arm '{arm.name}' names no listed site; known sites: "
            f"{', '.join(sorted(unseen))}"
        )
    if unseen[arm.site]:
        raise DataError(
            f"{where}: arm '{arm.name}' is the own model of '{arm.site}', but that site is unseen "
            "and took part in no training; correct one of the two"
        )


def _check_family(family: str, arms: list[Arm], names: set[str], where: str) -> None:
    sites = [arm.site for arm in arms]
    twice = [site for site in sites if sites.count(site) > 1]
    if twice:
        raise DataError(f"{where}: family '{family}' has two models of '{twice[0]}'; keep one")
    if family == LOCAL_ONLY:
        return  # every local model is a training of its own, with a label and a cost of its own
    if family in names or family in RESERVED_FAMILIES:
        raise DataError(
            f"{where}: family '{family}' has the name of an arm; give the family another name"
        )
    shared: dict[str, Callable[[Arm], Any]] = {
        "label": lambda arm: arm.family_label,
        "name before the site": lambda arm: arm.job,
        "seconds": lambda arm: arm.seconds,
        "rounds": lambda arm: arm.rounds,
        "steps": lambda arm: arm.steps,
        "bytes_sent": lambda arm: arm.bytes_sent,
        "does": lambda arm: arm.does,
        "acts": lambda arm: arm.acts,
        "reference": lambda arm: arm.reference,
    }
    for key, read in shared.items():
        _check_equal(family, key, map(read, arms), where)


def _check_equal(family: str, key: str, values: Iterable[Any], where: str) -> None:
    found = list(dict.fromkeys(values))
    if len(found) > 1:
        raise DataError(
            f"{where}: models of family '{family}' differ in '{key}' ({found[0]!r}, {found[1]!r}); "
            "it is that of the whole family, so write the same for all"
        )
