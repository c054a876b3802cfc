"""Accepted updates wait on disk for the end of the round: memory does not grow with sites.

A server that holds every site's update in memory needs a model for each. All our aggregators go
through the updates array by array, so the updates can as well lie in files that are mapped one
array at a time: the results are the same to the last bit.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from app_custom.aggregators.site_update import SiteUpdate

SMALL = 1 << 16
"""Bytes below which an array stays in memory: a mapping of it would cost more than it saves."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    """Where an array lies in the file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype


class SpooledArrays(Mapping[str, np.ndarray]):
    """Arrays by name, the large ones in a file that no folder lists and that ends with its owner.

    An array is mapped when it is asked for, and its pages are given back once it is let go.
    """

    def __init__(
        self,
        small: Mapping[str, np.ndarray],
        places: Mapping[str, _Place],
        order: tuple[str, ...],
        file: IO[bytes],
    ) -> None:
        self._small = small
        self._places = places
        self._order = order
        self._file = file

    def __getitem__(self, key: str) -> np.ndarray:
        """Map one array; what is written to it does not reach the file."""
        place = self._places.get(key)
        if place is None:
            return self._small[key]
        return np.asarray(np.memmap(self._file, place.dtype, "c", place.offset, place.shape))

    def __iter__(self) -> Iterator[str]:
        """Names in the order of the update."""
        return iter(self._order)

    def __len__(self) -> int:
        """Number of arrays."""
        return len(self._order)


def spooled(update: SiteUpdate, folder: Path) -> SiteUpdate:
    """The same update with its large arrays in a file in ``folder``.

    The file is removed from the folder as soon as it is there: also a killed process leaves nothing
    of a site's update behind. Where it cannot be written the update stays in memory, and a warning
    says so.
    """
    try:
        return replace(
            update,
            weights=_spool(update.weights, folder),
            arrays=_spool(update.arrays, folder),
        )
    except OSError as error:
        _LOG.warning(
            "%s: the update of site '%s' stays in memory (%s); make room there if memory is scarce",
            folder,
            update.site,
            error.strerror or error,
        )
        return update


def _spool(arrays: Mapping[str, np.ndarray], folder: Path) -> Mapping[str, np.ndarray]:
    large = {key: value for key, value in arrays.items() if value.nbytes >= SMALL}
    if not large:
        return arrays
    places: dict[str, _Place] = {}
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- it lives as long as the update
    for key, value in large.items():
        places[key] = _Place(file.tell(), value.shape, value.dtype)
        np.ascontiguousarray(value).tofile(file)
    file.flush()
    small = {key: value for key, value in arrays.items() if key not in places}
    return SpooledArrays(small, places, tuple(arrays), file)
