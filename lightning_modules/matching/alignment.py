"""Align several sites' networks, so that their average mixes like with like."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from fedi2i.cores import available_cores
from fedi2i.errors import ConfigError
from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.matching import MatchSettings, match, refine
from lightning_modules.matching.permutations import (
    Array,
    Permutations,
    State,
    identity,
    permute_tensor,
)

_LEAVE_ONE_OUT_SWEEPS = 3


def align(
    states: Mapping[str, State],
    samples: Mapping[str, float],
    groups: ChannelGroups,
    reference: State | None = None,
    settings: MatchSettings | None = None,
    workers: int | None = None,
) -> dict[str, Permutations]:
    """Permutations that bring all sites into one order of channels.

    With a reference (the model that the round started from) every site is matched to it, whatever
    the other sites are. Without one (networks with initial weights of their own) the site with
    most samples is the reference, by name if several have as many; it keeps its order. The others
    are then refined, in the order of their names, against the weighted mean of all other aligned
    sites, in up to three sweeps (as MergeMany of Git Re-Basin, arXiv:2209.04836, and FedMA's
    sweeps over clients).

    Args:
        states: site -> tensors of its network by state_dict key.
        samples: site -> number of training samples, more than 0; other sites' are ignored.
        groups: the network's channel groups.
        reference: the network whose order of channels the sites take; None as above.
        settings: how to match.
        workers: sites that are matched at a time; by default as many as cores. The result does
            not depend on it.

    Returns:
        site -> group -> p with ``aligned[i] = site[p[i]]``; sites in the order of their names.

    Raises:
        ConfigError: no site, a site without samples, or a shape that does not fit.
        DataError: a tensor has entries that are not finite.
    """
    settings = settings or MatchSettings()
    sites = sorted(states)
    _check_sites(sites, samples)
    count = min(len(sites), workers or available_cores())
    with worker_threads(count) as pool:
        if reference is not None:
            return _to_reference(pool, sites, states, groups, reference, settings)
        first = max(sites, key=lambda site: samples[site])  # max takes the first of several
        others = [site for site in sites if site != first]
        found = _to_reference(pool, others, states, groups, states[first], settings)
        found[first] = identity(groups)
        pool.submit(_refine_all, found, others, states, samples, groups, settings).result()
        return {site: found[site] for site in sites}


@contextmanager
def worker_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads in which torch computes with one thread each.

    Sites are the parallel unit: matrix products and the Hungarian method release Python's lock,
    and threads below them would compete for the same cores. torch keeps the number of threads per
    calling thread, so the caller's own stays as it is; what new threads start with is put back
    at the end.
    """
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, "matching", torch.set_num_threads, (1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _check_sites(sites: list[str], samples: Mapping[str, float]) -> None:
    if not sites:
        raise ConfigError("no site to align; at least one must take part")
    for site in sites:
        if not 0 < samples.get(site, 0) < float("inf"):
            raise ConfigError(f"site '{site}' has no number of samples above 0")


def _to_reference(
    pool: Executor,
    sites: list[str],
    states: Mapping[str, State],
    groups: ChannelGroups,
    reference: State,
    settings: MatchSettings,
) -> dict[str, Permutations]:
    matches = pool.map(lambda site: match(reference, states[site], groups, settings), sites)
    return {site: found.permutations for site, found in zip(sites, matches, strict=True)}


def _refine_all(
    found: dict[str, Permutations],
    sites: list[str],
    states: Mapping[str, State],
    samples: Mapping[str, float],
    groups: ChannelGroups,
    settings: MatchSettings,
) -> None:
    """Match each site to the mean of the others until nothing changes; one after the other."""
    for _ in range(_LEAVE_ONE_OUT_SWEEPS if len(found) > 2 else 0):
        changed = False
        for site in sites:
            rest = {other: states[other] for other in sorted(found) if other != site}
            # The mean is as large as a site; it must be gone before the next one is made.
            better = _closer(
                _mean(rest, samples, groups, found), states[site], groups, found[site], settings
            )
            changed |= any(not np.array_equal(better[g], found[site][g]) for g in better)
            found[site] = better
        if not changed:
            return


def _closer(
    mean: State,
    site: State,
    groups: ChannelGroups,
    present: Permutations,
    settings: MatchSettings,
) -> Permutations:
    if settings.sweeps == 0:
        return match(mean, site, groups, settings).permutations
    # One sweep of descent at a time: the mean moves with every site.
    return refine(mean, site, groups, present, replace(settings, sweeps=1)).permutations


def _mean(
    states: Mapping[str, State],
    samples: Mapping[str, float],
    groups: ChannelGroups,
    found: Mapping[str, Permutations],
) -> dict[str, Array]:
    """Weighted mean of aligned sites, of the tensors that all have and that tell channels apart."""
    total = sum(samples[site] for site in states)
    common = [
        key
        for key in groups.axes
        if groups.groups_of(key) and all(key in state for state in states.values())
    ]
    mean: dict[str, Array] = {}
    for key in common:
        weighted = (
            permute_tensor(key, state[key], groups, found[site]) * np.float32(samples[site] / total)
            for site, state in states.items()
        )
        mean[key] = functools.reduce(np.add, weighted)
    return mean
