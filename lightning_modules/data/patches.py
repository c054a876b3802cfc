"""Patches of volumes for training: a voxel inside the mask is drawn, and a block around it is cut.

Which slice a patch is drawn in follows from the learner's order of slices, so that a patient is
drawn as often as in training on slices. The voxel is drawn among the slice's voxels inside the
mask, and the block around it is moved until it lies in the volume: it always holds that voxel.
Nothing but the slice's mask and the block is read of a volume that is mapped into memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from lightning_modules.data.source_view import SourceView, ends_of_runs
from partitions.preparation import PreparedSplit

Block = tuple[slice, slice, slice]
"""Where a patch lies in the arrays of a split: slices, rows, columns."""


class PatchPlaces:
    """Where patches can lie in the volumes of a split.

    A patch is cut out of slices that follow each other in the scan, and never across a gap.

    Args:
        split: the prepared slices.
        view: with a patch.

    Raises:
        DataError: the patch is larger than a subject's volume.
    """

    def __init__(self, split: PreparedSplit, view: SourceView) -> None:
        self._split = split
        self._patch = view.patch
        self._first = np.zeros(len(split.source), dtype=np.intp)
        self._last = np.full(len(split.source), -1, dtype=np.intp)
        for subject in split.subjects:
            first, last = ends_of_runs(subject.heights)
            longest = int((last - first).max()) + 1
            if longest < self._patch[0]:
                raise DataError(
                    f"subject '{subject.subject}': its volume has {longest} slices without a gap, "
                    f"and model.patch {list(self._patch)} is larger; take patches of at most "
                    f"{longest} slices, or leave the subject out"
                )
            self._first[subject.start : subject.stop] = subject.start + first
            self._last[subject.start : subject.stop] = subject.start + last

    def long_enough(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """The slices among ``places`` around which a patch can lie."""
        lengths = self._last[places] - self._first[places] + 1
        return places[lengths >= self._patch[0]]

    def draw(self, place: int, random: np.random.Generator) -> Block:
        """A patch that holds a voxel of one slice, drawn evenly among those inside its mask.

        Args:
            place: the slice in the arrays of the split.
            random: one number is drawn from it.
        """
        mask = np.asarray(self._split.mask[place])
        inside = np.flatnonzero(mask)
        drawn = int(random.integers(len(inside) or mask.size))
        row, column = divmod(int(inside[drawn]) if len(inside) else drawn, mask.shape[1])
        lowest = (int(self._first[place]), 0, 0)
        highest = (int(self._last[place]) + 1, *mask.shape)
        return _block((place, row, column), self._patch, lowest, highest)


def _block(
    centre: Sequence[int], sides: Sequence[int], lowest: Sequence[int], highest: Sequence[int]
) -> Block:
    """The block around a voxel, moved into its bounds; ``highest`` is one past the last voxel."""
    corners = [
        min(max(middle - side // 2, low), high - side)
        for middle, side, low, high in zip(centre, sides, lowest, highest, strict=True)
    ]
    slices, rows, columns = (
        slice(corner, corner + side) for corner, side in zip(corners, sides, strict=True)
    )
    return slices, rows, columns
