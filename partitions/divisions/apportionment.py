"""Whole patients for shares that are no whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def largest_remainder(count: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Divide ``count`` by the method of largest remainders (Hamilton's).

    Args:
        count: how many there are, at least 0.
        shares: not negative, of any positive sum.

    Returns:
        Whole numbers with the sum ``count``: each quota rounded down, then one more to those with
        the largest fractions; of equal ones to the first.
    """
    quota = count * np.asarray(shares, dtype=np.float64) / np.sum(shares)
    # A quota of 3 may come out as 2.9999999999999996, and equal fractions must stay equal.
    quota = np.round(quota, 9)
    sizes = np.floor(quota).astype(int)
    order = np.argsort(-(quota - sizes), kind="stable")
    sizes[order[: count - sizes.sum()]] += 1
    return tuple(int(size) for size in sizes)


def cut(items: Sequence[Item], sizes: Sequence[int]) -> list[list[Item]]:
    """Cut a list into pieces of these sizes, in order."""
    ends = list(accumulate(sizes))
    return [list(items[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
