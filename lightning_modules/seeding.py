"""Seeds derived from names, so that every draw can be repeated in any process and any order."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive_seed(2026, "north", "order", 3)``.

    Unlike Python's ``hash`` it is the same in every process; unlike ``seed + i`` two purposes
    never share a stream.
    """
    text = "/".join(str(name) for name in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
