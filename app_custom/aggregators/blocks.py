"""Work through large arrays piece by piece, so that float64 copies stay within a few megabytes."""

from __future__ import annotations

from collections.abc import Iterator

BLOCK = 1 << 14
"""Coordinates at a time."""


def blocks(size: int, coordinates: int = BLOCK) -> Iterator[slice]:
    """Slices of at most so many coordinates that cover ``size`` of them in order."""
    for start in range(0, size, coordinates):
        yield slice(start, min(start + coordinates, size))
