"""Work through large arrays chunk by chunk, so that float64 copies stay within a few megabytes."""

from __future__ import annotations

from collections.abc import Iterator

CHUNK = 1 << 14
"""Coordinates at a time."""


def chunks(size: int, side_by_side: int | None = None) -> Iterator[slice]:
    """Slices that cover ``size`` coordinates in order.

    Args:
        size: number of coordinates.
        side_by_side: how many sites' values of a chunk are in memory together: the more sites, the
            fewer coordinates. None where they are taken one after the other.
    """
    step = CHUNK if side_by_side is None else max(1, 2 * CHUNK // side_by_side)
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))
