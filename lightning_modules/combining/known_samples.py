"""The sites' numbers of samples: what a site may claim, and sums over sites that did not answer.

A number of samples is a weight in the mean, and nobody but the site knows it. So it must be a whole
number that a hospital can have, and the same in every round: a job reads its data once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from statistics import fmean

import numpy as np

from lightning_modules.combining.updates import SiteUpdate, UpdateRefusedError, Weights

MOST_SAMPLES = 10_000_000
"""Training slices of one site: a hundred slices each of a hundred thousand patients."""
LARGE_SHARE = 0.75
"""With a larger part of all samples a site is nearly alone in the mean, and the server warns."""
_NAME = "samples"


def claimed_samples(claim: object) -> int:
    """Read the number of samples that a site claims.

    Raises:
        UpdateRefusedError: it is no whole number from 1 to ``MOST_SAMPLES``.
    """
    if not isinstance(claim, Real) or isinstance(claim, bool | np.bool_):
        raise UpdateRefusedError("it states no number of training samples")
    try:
        samples = float(claim)
    except OverflowError as error:  # whole numbers have no end
        raise UpdateRefusedError("it states endlessly many training samples") from error
    if not 1 <= samples <= MOST_SAMPLES or not samples.is_integer():
        raise UpdateRefusedError(
            f"it states {samples:g} training samples, which is no whole number from 1 to "
            f"{MOST_SAMPLES}"
        )
    return int(samples)


def check_same_samples(claims: Mapping[str, int], site: str, samples: int) -> None:
    """Refuse a claim that differs from what the site has claimed in an earlier round of the job.

    Args:
        claims: the first claim of each site in this job.
        site: the site.
        samples: what it claims now.

    Raises:
        UpdateRefusedError: it differs.
    """
    first = claims.get(site, samples)
    if samples != first:
        raise UpdateRefusedError(
            f"it states {samples} training samples, and {first} in an earlier round of this job; "
            "where the data has changed, submit the job again"
        )


def largest_share(samples: Mapping[str, float]) -> tuple[str, float]:
    """The site with the most samples, and its part of them all.

    Args:
        samples: number of samples by site; at least one.
    """
    site = max(sorted(samples), key=lambda name: samples[name])
    return site, samples[site] / sum(samples.values())


def remember_samples(memory: Weights, network: str, updates: Iterable[SiteUpdate]) -> None:
    """Note how many samples each answering site has."""
    for update in updates:
        memory[f"{_NAME}/{network}/{update.site}"] = np.asarray(update.samples, dtype=np.float64)


def total_samples(memory: Weights, network: str, sites: Sequence[str]) -> float:
    """Samples of all sites; one that has never answered counts as the mean of the others.

    Args:
        memory: the aggregator's memory, with at least one site of the network.
        network: the network in question; sites may train some networks only.
        sites: names of all sites of the job.
    """
    prefix = f"{_NAME}/{network}/"
    known = {key[len(prefix) :]: float(n) for key, n in memory.items() if key.startswith(prefix)}
    silent = [site for site in sites if site not in known]
    return sum(known.values()) + len(silent) * fmean(known.values())
