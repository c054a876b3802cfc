"""The similarity of several networks at once, under a permutation of each to one universe.

Pairwise permutations of more than two networks need not agree around a circle. Here each network i
has permutations P_i of its own into one common order, the *universe*, so that they agree by
construction (C2M3, Crisostomi et al., NeurIPS 2024, arXiv:2405.17897). The objective is the mean
similarity of all pairs of permuted networks, with the same weights of tensors as
``lightning_modules.matching.similarity``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedi2i.errors import ConfigError
from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.permutations import Permutations, State
from lightning_modules.matching.similarity import AxisSegment, FloatArray, TensorBlock, compare

Matrices = dict[str, FloatArray]
"""Group to P of shape (n, n): ``aligned = P @ channels``; rows are the universe's channels. Between
permutations there are doubly stochastic matrices, whose rows and columns sum to 1."""


@dataclass(frozen=True)
class Universe:
    """Several networks, prepared for being matched together.

    Attributes:
        blocks: blocks of the compared tensors, as in ``similarity.compare``.
        entries: per network the entries of every block, float64, scaled so that the sum over blocks
            of the inner products of two networks is their similarity.
    """

    blocks: tuple[TensorBlock, ...]
    entries: tuple[tuple[FloatArray, ...], ...]

    @property
    def pairs(self) -> float:
        """The number of pairs of networks."""
        return len(self.entries) * (len(self.entries) - 1) / 2

    def aligned(self, network: int, matrices: Matrices) -> list[FloatArray]:
        """The blocks of one network in the universe's order."""
        return [
            _turned(entries, block.segments, matrices)
            for block, entries in zip(self.blocks, self.entries[network], strict=True)
        ]

    def objective(self, matrices: Sequence[Matrices]) -> float:
        """Mean similarity of all pairs, in [-1, 1] where all matrices are permutations.

        Args:
            matrices: of every network.
        """
        moved = [self.aligned(i, own) for i, own in enumerate(matrices)]
        products = (
            float(np.vdot(one, other))
            for left, right in itertools.combinations(moved, 2)
            for one, other in zip(left, right, strict=True)
        )
        return math.fsum(products) / self.pairs

    def gradient(
        self, network: int, matrices: Matrices, others: Sequence[FloatArray], group: str
    ) -> FloatArray:
        """Derivative of the objective by one network's matrix of one group.

        Args:
            network: its place.
            matrices: its present matrices.
            others: per block the sum of all other networks, in the universe's order.
            group: the group.

        Returns:
            (n, n); rows are the universe's channels, columns the network's own.
        """
        size = len(matrices[group])
        total = np.zeros((size, size))
        for block, entries, rest in zip(self.blocks, self.entries[network], others, strict=True):
            for segment in block.segments:
                if segment.group == group:
                    moved = _turned(entries, block.others(segment), matrices)
                    total += _rows(rest, segment) @ _rows(moved, segment).T
        return total / self.pairs

    def others(self, network: int, moved: Sequence[Sequence[FloatArray]]) -> list[FloatArray]:
        """Per block the sum of all aligned networks but one."""
        rest = [blocks for place, blocks in enumerate(moved) if place != network]
        return [sum(parts[1:], start=parts[0]) for parts in zip(*rest, strict=True)]

    def curved(self, group: str) -> bool:
        """Whether a group stands on two axes of a block: the objective is then not linear in it."""
        return any(
            [segment.group for segment in block.segments].count(group) > 1 for block in self.blocks
        )


def universe_of(states: Sequence[State], groups: ChannelGroups) -> Universe:
    """Prepare several networks for being matched together.

    Args:
        states: two or more networks' tensors by state_dict key.
        groups: the channel groups of all.

    Raises:
        ConfigError: fewer than two networks, or shapes differ from each other or from the groups.
        DataError: a tensor has entries that are not finite.
    """
    if len(states) < 2:
        raise ConfigError(f"{len(states)} network(s) to match together; give two or more")
    comparisons = [compare(states[0], state, groups) for state in states[1:]]
    keys = [key for key in comparisons[0].weights if all(key in c.weights for c in comparisons)]
    total = math.fsum(math.sqrt(states[0][key].size) for key in keys)
    blocks = tuple(block for block in comparisons[0].blocks if block.key in set(keys))
    shares = {key: math.sqrt(math.sqrt(states[0][key].size) / total) for key in keys}
    return Universe(blocks, tuple(tuple(_scaled_blocks(state, blocks, shares)) for state in states))


def matrices_of(permutations: Mapping[str, np.ndarray]) -> Matrices:
    """Permutations as matrices of zeros and ones."""
    return {group: np.eye(len(order))[order] for group, order in permutations.items()}


def as_seen_from(anchor: Permutations, permutations: Permutations) -> Permutations:
    """One network's permutations into the order of another one instead of the universe's.

    Args:
        anchor: those of the network that keeps its order.
        permutations: the other network's, into the universe.
    """
    return {group: order[np.argsort(anchor[group])] for group, order in permutations.items()}


def _scaled_blocks(
    state: State, blocks: Sequence[TensorBlock], shares: Mapping[str, float]
) -> Iterator[FloatArray]:
    norms = {key: math.sqrt(float(np.square(state[key], dtype=np.float64).sum())) for key in shares}
    for block in blocks:
        array = state[block.key]
        index: list[slice] = [slice(None)] * array.ndim
        for segment in block.segments:
            index[segment.axis] = segment.entries
        yield array[tuple(index)].astype(np.float64) * (shares[block.key] / norms[block.key])


def _turned(entries: FloatArray, segments: Sequence[AxisSegment], matrices: Matrices) -> FloatArray:
    """A block with its channels along these segments mixed by the groups' matrices."""
    for segment in segments:
        if segment.group is not None:
            first = np.moveaxis(entries, segment.axis, 0)
            mixed = matrices[segment.group] @ first.reshape(segment.segment.size, -1)
            entries = np.moveaxis(mixed.reshape(first.shape), 0, segment.axis)
    return entries


def _rows(entries: FloatArray, segment: AxisSegment) -> FloatArray:
    """One row per channel of the segment, everything else in columns."""
    first = np.moveaxis(entries, segment.axis, 0)
    rows: FloatArray = first.reshape(segment.segment.size, -1)
    return rows
