"""How similar two networks are, tensor by tensor and channel by channel.

The similarity of two networks is the weighted mean, over their tensors, of the cosine between the
reference's tensor and the site's. Without the division by both norms that is in a cosine, tensors
of large entries would decide alone (affine normalisation near 1, convolutions near 0.02). The
weight of a tensor with N entries is sqrt(N): the cosine of unrelated tensors has a standard
deviation of 1 / sqrt(N), so every tensor counts in units of what chance gives. With equal weights
instead, a bias that differs at random between sites speaks as loudly as a whole convolution.

For fixed sizes, the one-to-one matching of largest similarity is the one of smallest weighted
squared distance: FedMA's objective (Wang et al., ICLR 2020, arXiv:2002.06440, equation 2) without
columns for new channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from fedi2i.errors import ConfigError, DataError
from lightning_modules.matching.channel_groups import ChannelGroups, Segment
from lightning_modules.matching.permutations import Array, Permutation, State, entry_order

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class AxisSegment:
    """One segment of one axis of a tensor: where it stands, and whose channels it holds."""

    axis: int
    start: int
    segment: Segment

    @property
    def entries(self) -> slice:
        """The segment's entries on the axis."""
        return slice(self.start, self.start + self.segment.entries)

    @property
    def group(self) -> str | None:
        """The group whose channels stand here; None if their order must not change."""
        return self.segment.group


@dataclass(frozen=True)
class TensorBlock:
    """A block of a tensor, as in a block matrix: one segment on each axis that has channels."""

    key: str
    segments: tuple[AxisSegment, ...]

    def others(self, segment: AxisSegment) -> tuple[AxisSegment, ...]:
        """All segments of the block but this one."""
        return tuple(other for other in self.segments if other is not segment)


@dataclass(frozen=True)
class Comparison:
    """A reference and a site, prepared for comparing their channels.

    Attributes:
        reference: state of the reference network.
        site: state of the site's network.
        blocks: blocks of the tensors that are compared.
        weights: key -> factor that turns inner products of tensors into the similarity.
    """

    reference: State
    site: State
    blocks: tuple[TensorBlock, ...]
    weights: Mapping[str, float]


def compare(reference: State, site: State, groups: ChannelGroups) -> Comparison:
    """Prepare the comparison of two networks.

    Left out are running statistics and other buffers, biases that a normalisation cancels, tensors
    that are zero in either network, tensors without a group, and keys that either state lacks.

    Args:
        reference: state of the reference network.
        site: state of the site's network.
        groups: the channel groups of both.

    Raises:
        ConfigError: shapes differ from each other or from the groups.
        DataError: a tensor has entries that are not finite.
    """
    weights: dict[str, float] = {}
    for key in _compared_keys(reference, site, groups):
        norms = [_norm(key, state[key]) for state in (reference, site)]
        if min(norms) > 0.0:
            weights[key] = math.sqrt(reference[key].size) / (norms[0] * norms[1])
    total = math.fsum(math.sqrt(reference[key].size) for key in weights)
    return Comparison(
        reference=reference,
        site=site,
        blocks=tuple(block for key in weights for block in _tensor_blocks(key, groups)),
        weights={key: weight / total for key, weight in weights.items()},
    )


def channel_similarity(
    comparison: Comparison,
    block: TensorBlock,
    segment: AxisSegment,
    permutations: Mapping[str, Permutation],
) -> FloatArray:
    """Similarity of every reference channel with every site channel in one block.

    Args:
        comparison: the two networks.
        block: the block.
        segment: the one of its segments whose channels are compared.
        permutations: those of the other segments' groups; none means the present order.

    Returns:
        (n, n); row: the reference's channel, column: the site's channel in the site's own order.
    """
    left = _entries(comparison.reference, block)
    right = _entries(comparison.site, block)
    for other in block.others(segment):
        right = _reordered(right, other, permutations)
    rows = torch.from_numpy(_unfolded(left, segment))
    columns = torch.from_numpy(_unfolded(right, segment))
    # torch's matrix product, because its number of threads can be set for one thread alone.
    similarity: FloatArray = torch.mm(rows, columns.T).numpy()
    similarity *= comparison.weights[block.key]
    return similarity


def block_similarity(
    comparison: Comparison, block: TensorBlock, permutations: Mapping[str, Permutation]
) -> float:
    """What one block adds to the networks' similarity, under these permutations of the site."""
    left = _entries(comparison.reference, block)
    right = _entries(comparison.site, block)
    for segment in block.segments:
        right = _reordered(right, segment, permutations)
    products = np.multiply(left, right, dtype=np.float64)
    return float(products.sum()) * comparison.weights[block.key]


def similarity(comparison: Comparison, permutations: Mapping[str, Permutation]) -> float:
    """Similarity of two networks, in [-1, 1], under these permutations of the site.

    It is 1 if every tensor is a positive multiple of the reference's, and 0 if nothing can be
    compared.
    """
    return math.fsum(
        block_similarity(comparison, block, permutations) for block in comparison.blocks
    )


def _compared_keys(reference: State, site: State, groups: ChannelGroups) -> list[str]:
    left_out = {*groups.dead_biases, *groups.buffers}
    keys = [
        key
        for key in groups.axes
        if key in reference and key in site and key not in left_out and groups.groups_of(key)
    ]
    for key in keys:
        shape, other = reference[key].shape, site[key].shape
        if shape != other:
            raise ConfigError(
                f"'{key}' has shape {list(other)} at a site and {list(shape)} in the reference"
            )
        for axis, segments in groups.axes[key].items():
            if len(shape) <= axis or shape[axis] != sum(segment.entries for segment in segments):
                raise ConfigError(f"'{key}' of shape {list(shape)} does not fit the groups")
    return keys


def _tensor_blocks(key: str, groups: ChannelGroups) -> list[TensorBlock]:
    per_axis = []
    for axis, segments in groups.axes[key].items():
        starts = np.cumsum([0, *(segment.entries for segment in segments)])
        pairs = zip(starts, segments, strict=False)
        per_axis.append([AxisSegment(axis, int(start), segment) for start, segment in pairs])
    return [TensorBlock(key, segments) for segments in product(*per_axis)]


def _norm(key: str, array: Array) -> float:
    norm = math.sqrt(float(np.square(array, dtype=np.float64).sum()))
    if not math.isfinite(norm):
        raise DataError(f"'{key}' has entries that are not finite; it cannot be matched")
    return norm


def _entries(state: State, block: TensorBlock) -> Array:
    array = state[block.key]
    index = [slice(None)] * array.ndim
    for segment in block.segments:
        index[segment.axis] = segment.entries
    return array[tuple(index)]


def _reordered(
    entries: Array, segment: AxisSegment, permutations: Mapping[str, Permutation]
) -> Array:
    permutation = permutations.get(segment.group or "")
    if permutation is None:
        return entries
    return np.take(entries, entry_order(segment.segment, permutation), axis=segment.axis)


def _unfolded(entries: Array, segment: AxisSegment) -> FloatArray:
    """One row per channel of the segment, everything else in columns."""
    rows = np.ascontiguousarray(np.moveaxis(entries, segment.axis, 0), dtype=np.float64)
    return rows.reshape(segment.segment.size, -1)
