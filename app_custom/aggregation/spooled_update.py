"""Accepted updates wait on disk for the end of the round: memory does not grow with sites.

A server that holds every site's update in memory needs a model for each. All our aggregators go
through the updates array by array, so the updates can as well lie in files that are mapped one
array at a time: the results are the same to the last bit.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lightning_modules.combining.updates import LazyArrays, SiteUpdate

SMALL = 1 << 16
"""Bytes below which an array stays in memory: a mapping of it would cost more than it saves."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    """Where an array lies in the file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype


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
            extras=_spool(update.extras, folder),
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

    def mapped(key: str) -> np.ndarray:
        """Map one array; what is written to it does not reach the file."""
        place = places.get(key)
        if place is None:
            return small[key]
        return np.asarray(np.memmap(file, place.dtype, "c", place.offset, place.shape))

    # An array's pages are given back once it is let go; the file ends with its last user.
    return LazyArrays(arrays, mapped)
