"""Sample counts of all sites of a job, for sums that also run over sites that did not answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

import numpy as np

from lightning_modules.combining.updates import SiteUpdate, Weights

_NAME = "samples"


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
