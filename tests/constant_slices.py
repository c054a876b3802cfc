"""Prepared splits whose slices are constant, so that every drawn slice tells where it came from."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from partitions.preparation import PreparedSplit, PreparedSubject

BOTH = ("source", "target")


def constant_split(first: int, *subjects: tuple[int, tuple[str, ...]]) -> PreparedSplit:
    """Slice ``i`` is constant: its source is stored as ``first + i``, its target as 1000 more.

    Subjects are given as number of slices and domains; what one lacks is 0, as preparation leaves
    it.
    """
    total = sum(slices for slices, _ in subjects)
    source = np.empty((total, 2, 3), np.uint16)
    source[:] = np.arange(first, first + total)[:, None, None]
    arrays = {"source": source, "target": source + 1000}
    entries, start = [], 0
    for number, (slices, domains) in enumerate(subjects):
        stop = start + slices
        for domain in set(BOTH) - set(domains):
            arrays[domain][start:stop] = 0
        entries.append(PreparedSubject(f"{first}-{number}", start, stop, None, {}, domains))
        start = stop
    mask = np.ones(source.shape, np.uint8)
    return PreparedSplit(arrays["source"], arrays["target"], mask, None, tuple(entries))


def stored_values(images: Tensor) -> list[int]:
    """The stored value of each constant slice (n, 1, rows, columns) of a batch."""
    assert bool((images.amax((1, 2, 3)) == images.amin((1, 2, 3))).all())
    return [round(float((value + 1) / 2 * 65535)) for value in images[:, 0, 0, 0].double()]
