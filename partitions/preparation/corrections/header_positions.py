"""Take the positions in a pair's headers at their word, and hold that word against the anatomy.

Scans of one examination share a frame of reference, whatever their grids: nothing has to be
searched for, the same position is the same place. A header can be wrong all the same (a converter,
a second examination, a patient who moved), so that the pair is refused where its foregrounds do not
overlap or the two images would be more alike a little elsewhere, or with left and right exchanged.

How alike two images of different contrast are is said by normalised mutual information (Studholme
et al., Pattern Recognition 1999, doi:10.1016/S0031-3203(98)00091-0), which does not fall merely
because less of them overlaps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.metrics import normalized_mutual_information

from fedi2i.errors import DataError
from partitions.preparation.corrections.placement import (
    LEAST_OVERLAP,
    Mask,
    Matrix,
    overlap,
    reach,
)
from partitions.scans.grid import Affine
from partitions.scans.volume import Volume

LEAST_REACH = 0.5
"""Part of the source's foreground that the target shows."""

AWAY_MM, AWAY_DEGREES = 6.0, 6.0
"""How far away the pair must be less alike than where its headers put it: headers that are wrong by
more than half of it are found."""

LEAST_GAIN = 1.03
"""How much more alike the pair must be than with left and right exchanged. Right pairs had 1.05 (a
computed head in slices of 15 mm) to 1.43 (a public T1 and T2), exchanged ones at most 1.01."""

BINS, STEP_MM, RIM_MM = 32, 3.0, 10.0
"""Of the histogram; between the places looked at; and how far around the foreground these reach."""
CLIPPED = (0.5, 99.5)
"""Percentiles, so that a few bright vessels do not take most bins."""

LEAST_PLACES = 1000
"""With fewer places in both scans the likeness says nothing."""

IDENTITY: Matrix = tuple(tuple(float(row == column) for column in range(4)) for row in range(4))


@dataclass(frozen=True)
class HeaderPositions:
    """That the same position is the same place in both scans, and what speaks for it.

    Attributes:
        matrix: 4x4, position in the source to position in the target, mm, RAS: the identity.
        reach: part of the source's foreground that the target shows.
        overlap: Dice coefficient of the foregrounds, where both scans look.
        likeness: normalised mutual information, less 1: 0 for images without relation.
        elsewhere: the largest one at a place `AWAY_MM` or `AWAY_DEGREES` away.
        mirrored: the one with the left and the right of the source exchanged.
    """

    matrix: Matrix
    reach: float
    overlap: float
    likeness: float
    elsewhere: float
    mirrored: float

    def to_json(self) -> dict[str, Any]:
        """What a subject's record keeps of it."""
        return asdict(self)

    def faults(self) -> Iterator[str]:
        """What speaks against it; nothing where it is to be believed."""
        if self.reach < LEAST_REACH:
            yield (
                f"the target shows {self.reach:.0%} of what stands out of the source, less than "
                f"{LEAST_REACH:.0%}"
            )
        if self.overlap < LEAST_OVERLAP:
            yield f"the foregrounds overlap by {self.overlap:.2f}, less than {LEAST_OVERLAP:g}"
        if not self.elsewhere < self.likeness:
            yield (
                f"{AWAY_MM:g} mm or {AWAY_DEGREES:g} degrees away the images are more alike "
                f"(mutual information {self.elsewhere:.3f} against {self.likeness:.3f})"
            )
        if not LEAST_GAIN * self.mirrored <= self.likeness:
            yield (
                "with left and right exchanged the images are about as alike (mutual information "
                f"{self.mirrored:.3f} against {self.likeness:.3f}), so that one of the two may be "
                "mirrored"
            )


def believed(
    source: Volume, target: Volume, foregrounds: tuple[Mask, Mask], subject: str
) -> HeaderPositions:
    """Have the headers say where the target lies against its source.

    Args:
        source: stays as it is.
        target: on a grid of its own.
        foregrounds: head or body in the source and in the target, on their grids.
        subject: whose scans these are, for the message.

    Raises:
        DataError: the anatomy does not agree; the sentence says why.
    """
    found = _held_against_anatomy(source, target, foregrounds)
    faults = list(found.faults())
    if faults:
        raise DataError(
            f"subject '{subject}': {target.path}: its header does not lay it over "
            f"{source.path.name}: {'; '.join(faults)}; look at both scans, then set "
            "'registration: rigid', correct the header, or leave the subject out"
        )
    return found


def _held_against_anatomy(
    source: Volume, target: Volume, foregrounds: tuple[Mask, Mask]
) -> HeaderPositions:
    shown = foregrounds[0] & reach(source, target, IDENTITY)
    pair = _Pair(source, target, foregrounds[0])
    return HeaderPositions(
        matrix=IDENTITY,
        reach=float(shown.sum() / foregrounds[0].sum()),
        overlap=overlap(foregrounds, source, target, IDENTITY),
        likeness=pair.likeness(np.eye(4)),
        elsewhere=max(pair.likeness(_moved(step, pair.middle)) for step in _STEPS),
        mirrored=pair.likeness(_mirrored(pair.middle)),
    )


class _Pair:
    """Two images, seen at places of the source a few mm apart, in and around its foreground."""

    def __init__(self, source: Volume, target: Volume, foreground: Mask) -> None:
        index = _places(foreground, source.voxel_size())
        self._values = _clipped(source.data)[tuple(index)]
        self._positions = source.affine @ np.vstack([index, np.ones(index.shape[1])])
        self._target = _clipped(target.data)
        self._to_index = np.linalg.inv(target.affine)
        self.middle = (source.affine @ [*np.argwhere(foreground).mean(axis=0), 1.0])[:3]

    def likeness(self, matrix: Affine) -> float:
        """Normalised mutual information, less 1, if the target lies as a matrix says."""
        index = (self._to_index @ matrix @ self._positions)[:3]
        last = np.array(self._target.shape)[:, None] - 0.5
        inside = np.all((index >= -0.5) & (index <= last), axis=0)
        if inside.sum() < LEAST_PLACES:
            return 0.0
        there = ndimage.map_coordinates(self._target, index[:, inside], order=1, mode="nearest")
        compare: Any = normalized_mutual_information
        return float(compare(self._values[inside], there, bins=BINS)) - 1


def _places(foreground: Mask, edges: tuple[float, float, float]) -> NDArray[np.intp]:
    """Voxels `STEP_MM` apart in the box of the foreground and a rim around it, shape (3, n)."""
    axes = []
    for axis, edge in enumerate(edges):
        others = tuple(other for other in range(3) if other != axis)
        hit, rim = np.flatnonzero(foreground.any(axis=others)), round(RIM_MM / edge)
        first, last = max(hit[0] - rim, 0), min(hit[-1] + rim, foreground.shape[axis] - 1)
        axes.append(np.arange(first, last + 1, max(round(STEP_MM / edge), 1)))
    return np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)


def _clipped(data: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.percentile(data, CLIPPED)
    return np.clip(data, low, high)


_STEPS = [
    tuple(float(sign * (axis == along)) for axis in range(6))
    for along in range(6)
    for sign in (-1, 1)
]
"""One unit along or about each axis, both ways: three shifts, then three turns."""


def _moved(step: tuple[float, ...], middle: NDArray[np.float64]) -> Affine:
    """A shift of `AWAY_MM` or a turn of `AWAY_DEGREES` about the middle of the foreground."""
    matrix = np.eye(4)
    turn = Rotation.from_euler("xyz", np.multiply(step[3:], AWAY_DEGREES), degrees=True)
    matrix[:3, :3] = turn.as_matrix()
    matrix[:3, 3] = middle - matrix[:3, :3] @ middle + np.multiply(step[:3], AWAY_MM)
    return matrix


def _mirrored(middle: NDArray[np.float64]) -> Affine:
    """Left and right exchanged about the middle of the foreground."""
    matrix = np.diag([-1.0, 1.0, 1.0, 1.0])
    matrix[0, 3] = 2 * middle[0]
    return matrix
