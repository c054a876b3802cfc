"""Which slices make one volume: a series may hold several, or none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from partitions.dicom.folder import in_silence
from partitions.dicom.geometry import GeometryError, duplicate_places
from partitions.dicom.slices import Slice

if TYPE_CHECKING:
    from pydicom import Dataset

SAME_DIRECTION, SAME_SPACING_MM = 1e-3, 1e-4
"""Slices are alike within these limits. Rounded keys would split a series at a border."""


@dataclass(frozen=True)
class Group:
    """Slices that belong to one volume; at least one.

    Attributes:
        slices: in the order in which they were found.
    """

    slices: tuple[Slice, ...]

    @property
    def first(self) -> Slice:
        """The slice whose header speaks for all."""
        return self.slices[0]

    @property
    def is_volume(self) -> bool:
        """Whether there are several slices, as there must be for a distance between them."""
        return len(self.slices) > 1

    def header(self) -> Dataset:
        """The whole header of the first slice, without pixels."""
        from pydicom import dcmread

        with in_silence():
            return dcmread(self.first.path, stop_before_pixels=True)

    def text(self) -> str:
        """What a person needs to tell it from others, for the console of its own site."""
        header = self.header()
        with in_silence():  # values are read as late as they are asked for
            number, words = header.get("SeriesNumber", "?"), header.get("SeriesDescription", "")
        rows, columns = self.first.shape
        down, across = self.first.spacing
        return (
            f"series {number} '{words}': "
            f"{len(self.slices)} slices of {columns} x {rows} pixels, {across:.4g} x {down:.4g} mm"
        )


def group(slices: Iterable[Slice]) -> tuple[Group, ...]:
    """Sort slices into volumes, in the order of their first ones.

    Slices of one volume have the same patient, study, series, size, image type, echo, time, b-value
    and frame of reference, and nearly the same directions and spacing. The acquisition counts only
    where slices would else lie at one place: many scanners change it within a volume.
    """
    alike: dict[tuple[object, ...], list[list[Slice]]] = defaultdict(list)
    for one in slices:
        key = (one.patient, one.study, one.series, one.shape, one.kind)
        near = (members for members in alike[key] if _is_near(members[0], one))
        members = next(near, None)
        if members is None:
            alike[key].append([one])
        else:
            members.append(one)
    return tuple(
        Group(tuple(part))
        for groups in alike.values()
        for members in groups
        for part in _by_acquisition(members)
    )


def _is_near(one: Slice, other: Slice) -> bool:
    turned = np.abs(np.subtract(one.orientation, other.orientation)).max()
    resized = np.abs(np.subtract(one.spacing, other.spacing)).max()
    return bool(turned <= SAME_DIRECTION and resized <= SAME_SPACING_MM)


def _by_acquisition(members: Sequence[Slice]) -> list[list[Slice]]:
    """The slices by acquisition if some of them lie at one place, otherwise all together."""
    parts: dict[str, list[Slice]] = defaultdict(list)
    for one in members:
        parts[one.acquisition].append(one)
    if len(parts) < 2:
        return [list(members)]
    try:
        twice = duplicate_places([one.position for one in members], members[0].orientation)
    except GeometryError:  # whoever reads the volume will say it
        twice = 0
    return list(parts.values()) if twice else [list(members)]
