"""What a generator is shown of a source: a slice, and its neighbours in the volume ("2.5-D").

Neighbours are other channels of the input; the target is one slice all the same. They are read from
the volume where it lies, by index: nothing is copied on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_NEIGHBOURS = 8
"""On either side: a bound on what a job may ask of a site's memory."""


@dataclass(frozen=True)
class SourceView:
    """The slices that a generator is shown for each that it makes.

    Attributes:
        neighbours: how many on either side of the slice. The channels go from the feet to the head,
            so that channel ``neighbours`` is the slice itself.
    """

    neighbours: int = 0

    @property
    def channels(self) -> int:
        """Input channels of the generator."""
        return 2 * self.neighbours + 1

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
        first, last = _ends_of_runs(np.asarray(heights, dtype=np.intp))
        steps = np.arange(-self.neighbours, self.neighbours + 1)
        places = np.arange(len(heights))[:, None] + steps
        found: NDArray[np.intp] = np.clip(places, first[:, None], last[:, None])
        return found

    @property
    def text(self) -> str:
        """The channels in words."""
        if not self.neighbours:
            return "one slice"
        return (
            f"{self.channels} slices from the feet to the head: {self.neighbours} below the slice "
            f"that is translated, the slice, {self.neighbours} above it; where one is missing the "
            "last slice before is repeated"
        )


ONE_SLICE = SourceView()
"""A slice by itself."""


def _ends_of_runs(heights: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For every slice the first and the last place of the run without a gap that it lies in."""
    starts = np.flatnonzero(np.diff(heights, prepend=heights[:1] - 2) != 1)
    stops = np.append(starts, len(heights))[1:]
    lengths = stops - starts
    return np.repeat(starts, lengths), np.repeat(stops - 1, lengths)
