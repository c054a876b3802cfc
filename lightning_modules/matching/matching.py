"""Match one site's channels to a reference's: a forward pass, then coordinate descent.

The forward pass takes the groups in forward order and looks only at tensors whose other axes are
aligned already. This is FedMA's recursion over layers (arXiv:2002.06440, section 2), done in one
go. It never looks at the order in which the site happens to keep its channels, so neither does the
result depend on it. Coordinate descent then looks at all tensors of a group, at those that read its
channels too, with the other groups as they are, until nothing changes (weight matching of
Git Re-Basin, Ainsworth et al., ICLR 2023, arXiv:2209.04836).
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from fedi2i.errors import ConfigError
from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.permutations import (
    Permutation,
    Permutations,
    State,
    check_permutations,
    identity,
)
from lightning_modules.matching.similarity import (
    AxisSegment,
    Comparison,
    FloatArray,
    TensorBlock,
    block_similarity,
    channel_similarity,
    compare,
    similarity,
)

# Relative to the largest similarity. Far above the rounding of float64 sums (1e-15), so that equal
# channels stay where they are; far below the smallest difference between unequal ones, so that
# nothing else is decided by a channel's present place.
_TIE = 1e-12
# Of similarities of whole networks, which are at most 1.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class MatchSettings:
    """How channels are matched.

    Attributes:
        sweeps: largest number of sweeps of coordinate descent; 0 is the forward pass alone, the
            rule of FedMA's paper.
        stay_margin: fraction of a group's similarity, in [0, 1), that a change must gain at least.
            With more than 0 the result depends on the order of the site's channels.
    """

    sweeps: int = 2
    stay_margin: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigError: naming the value.
        """
        if self.sweeps < 0:
            raise ConfigError(f"matching sweeps is {self.sweeps}; it must not be negative")
        if not 0.0 <= self.stay_margin < 1.0:
            raise ConfigError(f"matching stay_margin is {self.stay_margin}; it must be in [0, 1)")


@dataclass(frozen=True)
class Match:
    """One site's alignment to a reference.

    Attributes:
        permutations: group -> p with ``aligned[i] = site[p[i]]``.
        objective: similarity of reference and aligned site, in [-1, 1], after the forward pass
            and after each sweep; never decreasing.
    """

    permutations: Permutations
    objective: tuple[float, ...]


def match(
    reference: State,
    site: State,
    groups: ChannelGroups,
    settings: MatchSettings | None = None,
    fixed: Mapping[str, Permutation] | None = None,
    only: Sequence[str] | None = None,
) -> Match:
    """Match a site's channels to those of a reference.

    The matrix products use as many threads as torch does in the calling thread.

    Args:
        reference: tensors of the reference network by state_dict key.
        site: tensors of the site's network, of the same shapes.
        groups: the channel groups of both.
        settings: how to match.
        fixed: groups that keep these permutations.
        only: groups to match, by the forward rule alone; all others that are not fixed are left
            as they are and are not looked at. For protocols that go through a network layer by
            layer.

    Returns:
        Permutations of the matched and the fixed groups.

    Raises:
        ConfigError: a group is unknown, a shape does not fit, or an array is no permutation.
        DataError: a tensor has entries that are not finite.
    """
    settings = settings or MatchSettings()
    settled: Permutations = dict(fixed or {})
    check_permutations(settled, groups)
    _check_known(only or (), groups)
    wanted = groups.order if only is None else only
    todo = [group for group in groups.order if group in wanted and group not in settled]
    comparison = compare(reference, site, groups)
    _forward_pass(comparison, settled, todo, groups, settings)
    if only is not None:
        return Match(settled, (similarity(comparison, settled),))
    return _coordinate_descent(comparison, settled, todo, settings)


def refine(
    reference: State,
    site: State,
    groups: ChannelGroups,
    start: Mapping[str, Permutation],
    settings: MatchSettings | None = None,
) -> Match:
    """Improve an alignment by coordinate descent alone; arguments and errors as for ``match``.

    Args:
        reference: tensors of the reference network.
        site: tensors of the site's network, in the site's own order.
        groups: the channel groups of both.
        start: permutations to begin with; groups that are not named keep the site's order.
        settings: how to match.
    """
    settings = settings or MatchSettings()
    check_permutations(start, groups)
    comparison = compare(reference, site, groups)
    return _coordinate_descent(comparison, {**identity(groups), **start}, groups.order, settings)


def assign(similarities: FloatArray, stay_margin: float = 0.0) -> Permutation:
    """Which site channel goes to the place of which reference channel (Hungarian method).

    Where assignments are equally good, a channel that is in its place already stays.

    Args:
        similarities: (n, n); row i is the reference's channel i, column j the site's channel j.
        stay_margin: fraction of the best sum, in [0, 1), that moving channels must gain at least;
            otherwise all stay.

    Returns:
        p of shape (n,) with the site's channel p[i] assigned to the reference's channel i.
    """
    size = len(similarities)
    stay = np.arange(size, dtype=np.int64)
    tie = _TIE * float(np.abs(similarities).max(initial=0.0))
    _, columns = linear_sum_assignment(similarities + tie * np.eye(size), maximize=True)
    moved = columns.astype(np.int64)
    best = float(similarities[stay, moved].sum())
    gain = best - float(np.trace(similarities))
    return moved if gain > max(tie, stay_margin * abs(best)) else stay


def _check_known(names: Sequence[str], groups: ChannelGroups) -> None:
    for name in names:
        if name not in groups.sizes:
            raise ConfigError(f"'{name}' is no channel group of this network")


# Where a group stands: a block, and the one of its segments that holds the group's channels.
Occurrence = tuple[TensorBlock, AxisSegment]


def _forward_pass(
    comparison: Comparison,
    settled: Permutations,
    todo: Sequence[str],
    groups: ChannelGroups,
    settings: MatchSettings,
) -> None:
    """Settle groups one after the other, by what is settled already."""
    pending = list(todo)
    while pending:
        group, found = _next_group(comparison, pending, settled)
        if found:
            total = _summed_similarity(comparison, found, settled, groups.sizes[group])
            settled[group] = assign(total, settings.stay_margin)
        else:
            settled[group] = np.arange(groups.sizes[group], dtype=np.int64)
        pending.remove(group)


def _next_group(
    comparison: Comparison, pending: Sequence[str], settled: Permutations
) -> tuple[str, list[Occurrence]]:
    """The first group that settled ones say something about; the first of all if none."""
    for group in pending:
        found = _occurrences(comparison, group, settled)
        if found:
            return group, found
    return pending[0], []


def _coordinate_descent(
    comparison: Comparison,
    permutations: Permutations,
    todo: Sequence[str],
    settings: MatchSettings,
) -> Match:
    """Sweep over the groups, leaving out those whose neighbours have not changed since."""
    objective = [similarity(comparison, permutations)]
    neighbours = _neighbours(comparison)
    stale = set(todo)
    for _ in range(settings.sweeps):
        if not stale:
            break
        gained = 0.0
        for group in todo:
            if group not in stale:
                continue
            stale.remove(group)
            improved, gain = _improved_permutation(comparison, group, permutations, settings)
            if gain > 0.0:
                permutations[group] = improved
                gained += gain
                stale |= neighbours[group] & set(todo)
        objective.append(objective[-1] + gained)
    return Match(permutations, tuple(objective))


def _improved_permutation(
    comparison: Comparison, group: str, permutations: Permutations, settings: MatchSettings
) -> tuple[Permutation, float]:
    """A better permutation of one group with all others kept, and its gain; 0 if there is none."""
    present = permutations[group]
    found = _occurrences(comparison, group, permutations)
    if not found:
        return present, 0.0
    curved = [occurrence for occurrence in found if _is_curved(occurrence[0])]
    straight = [occurrence for occurrence in found if not _is_curved(occurrence[0])]
    linear = _summed_similarity(comparison, straight, permutations, len(present))[:, present]
    slope = linear + _summed_similarity(comparison, curved, permutations, len(present))[:, present]
    step = assign(slope, settings.stay_margin)
    if np.array_equal(step, np.arange(len(step))):
        return present, 0.0
    gain = float(linear[np.arange(len(step)), step].sum() - np.trace(linear))
    if curved:
        gain += _curved_gain(comparison, curved, permutations, {group: present[step]})
        gain = gain if gain > _ROUNDING else 0.0
    return present[step], gain


def _is_curved(block: TensorBlock) -> bool:
    """Whether one group stands on two axes of a block: its similarity is then no linear sum."""
    groups = [segment.group for segment in block.segments]
    return len(set(groups)) < len(groups)


def _curved_gain(
    comparison: Comparison,
    curved: Sequence[Occurrence],
    before: Mapping[str, Permutation],
    change: Mapping[str, Permutation],
) -> float:
    after = {**before, **change}
    return math.fsum(
        block_similarity(comparison, block, after) - block_similarity(comparison, block, before)
        for block in dict.fromkeys(block for block, _ in curved)
    )


def _occurrences(
    comparison: Comparison, group: str, settled: Mapping[str, Permutation]
) -> list[Occurrence]:
    """Where a group stands in tensors whose other axes are pinned or settled."""
    known = {None, *settled}
    return [
        (block, segment)
        for block in comparison.blocks
        for segment in block.segments
        if segment.group == group and all(s.group in known for s in block.others(segment))
    ]


def _summed_similarity(
    comparison: Comparison,
    occurrences: Sequence[Occurrence],
    permutations: Mapping[str, Permutation],
    size: int,
) -> FloatArray:
    total = np.zeros((size, size))
    for block, segment in occurrences:
        total += channel_similarity(comparison, block, segment, permutations)
    return total


def _neighbours(comparison: Comparison) -> dict[str, set[str]]:
    """Groups that share a tensor; a group that meets itself is its own neighbour."""
    neighbours: dict[str, set[str]] = defaultdict(set)
    for block in comparison.blocks:
        names = [segment.group for segment in block.segments]
        for group, other in itertools.permutations(names, 2):
            if group is not None and other is not None:
                neighbours[group].add(other)
    return neighbours
