"""What a generator is shown of a source: a slice, neighbours beside it, or a patch of the volume.

Of a source of several contrasts it is the same slice of each. Neighbours ("2.5-D") are other
channels of the input; the target is one slice all the same. A patch is a block of voxels, and so is
its target (3-D). Both are read from the volume where it lies, by index: nothing is copied on the
disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import ConfigError

MOST_NEIGHBOURS = 8
"""On either side: a bound on what a job may ask of a site's memory."""
MOST_PATCH_SLICES = 1024
"""Of a patch; its rows and columns are bounded by the size of the prepared slices."""


@dataclass(frozen=True)
class SourceView:
    """The slices that a generator is shown for each that it makes.

    Attributes:
        neighbours: how many on either side of the slice. The channels go from the feet to the head,
            so that channel ``neighbours`` is the slice itself.
        patch: slices, rows and columns of the patches that take the place of slices; empty where
            the generator is shown slices.
        contrasts: how many contrasts the source has; each is a channel. Several contrasts of a
            volume lie behind each other in one array, as (contrasts * slices, rows, columns).
    """

    neighbours: int = 0
    patch: tuple[int, ...] = ()
    contrasts: int = 1

    @property
    def spatial_dims(self) -> int:
        """Of the networks: 2 for slices, 3 for patches of volumes."""
        return len(self.patch) or 2

    @property
    def spans_slices(self) -> bool:
        """Whether the distance from slice to slice matters to the generator."""
        return bool(self.neighbours or self.patch)

    def sides(self, size: Sequence[int]) -> tuple[int, ...]:
        """The sides of what the networks are given: of the patch, or of the prepared slices."""
        return self.patch or tuple(size)

    @property
    def channels(self) -> int:
        """Input channels of the generator."""
        return self.contrasts * (2 * self.neighbours + 1)

    def around(self, heights: Sequence[int]) -> NDArray[np.intp]:
        """Which slices of one volume are shown for each of its slices.

        Where a neighbour is missing, at the volume's ends and where preparation has left out
        slices in between, the last slice before is repeated: what lies behind a gap is no
        neighbour.

        Args:
            heights: where the slices lie in their scan, counted from the feet, in rising order.

        Returns:
            Places in the volume, (slices, channels).
        """
        first, last = ends_of_runs(heights)
        steps = np.arange(-self.neighbours, self.neighbours + 1)
        places = np.arange(len(heights))[:, None] + steps
        found: NDArray[np.intp] = np.clip(places, first[:, None], last[:, None])
        each = [found + number * len(heights) for number in range(self.contrasts)]
        return np.concatenate(each, axis=1)

    @property
    def text(self) -> str:
        """The channels in words."""
        if self.patch:
            sides = " x ".join(str(side) for side in self.patch)
            return f"patches of {sides} voxels (slices from the feet to the head, rows, columns)"
        if self.contrasts > 1:
            return f"one slice of each of {self.contrasts} contrasts, empty where one is missing"
        if not self.neighbours:
            return "one slice"
        return (
            f"{self.channels} slices from the feet to the head: {self.neighbours} below the slice "
            f"that is translated, the slice, {self.neighbours} above it; where one is missing the "
            "last slice before is repeated"
        )


ONE_SLICE = SourceView()
"""A slice by itself."""


def check_patch(view: SourceView, size: Sequence[int], where: str) -> None:
    """Refuse patches that slices of a size do not hold.

    Args:
        view: with a patch or without one.
        size: rows and columns of the prepared slices.
        where: the words a message begins with.

    Raises:
        ConfigError: naming the key and what is allowed.
    """
    patch = view.patch
    if not patch:
        return
    if len(patch) != 3 or min(patch) < 1 or patch[0] > MOST_PATCH_SLICES:
        raise ConfigError(
            f"{where}: model.patch is {list(patch[:4])}; give slices, rows and columns, of at "
            f"least 1 and at most {MOST_PATCH_SLICES:,} slices"
        )
    if any(side > most for side, most in zip(patch[1:], size, strict=True)):
        raise ConfigError(
            f"{where}: model.patch {list(patch)} is larger than the prepared slices, whose "
            f"data.preparation.size is {list(size)}; take fewer rows or columns"
        )
    if view.neighbours:
        raise ConfigError(
            f"{where}: model.patch shows the generator a block of slices, and model.neighbours "
            "those beside a single one; leave one of both out"
        )


def ends_of_runs(heights: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For every slice the first and the last place of the run without a gap that it lies in.

    Args:
        heights: see ``SourceView.around``.
    """
    places = np.asarray(heights, dtype=np.intp)
    starts = np.flatnonzero(np.diff(places, prepend=places[:1] - 2) != 1)
    stops = np.append(starts, len(places))[1:]
    lengths = stops - starts
    return np.repeat(starts, lengths), np.repeat(stops - 1, lengths)
