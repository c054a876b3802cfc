"""Shorten long dotted names as far as they stay different from each other."""

from __future__ import annotations

import re
from collections.abc import Sequence

MOSTLY = 0.75


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Leave out the words that more than three quarters of the names share.

    ``unet.model.0.conv`` and ``unet.model.1.submodule.0.conv`` become ``0`` and ``1.0``. Numbers
    stay, and so does what would leave a name empty or equal to another one.

    Args:
        names: different dotted names.

    Returns:
        Name to short name, all different.
    """
    parts = {name: name.split(".") for name in names}
    words = {word for split in parts.values() for word in split if not word.isdigit()}
    holders = {word: sum(word in split for split in parts.values()) for word in words}
    for word in sorted(words, key=lambda word: (-holders[word], word)):
        shorter = {name: [p for p in split if p != word] for name, split in parts.items()}
        joined = [".".join(split) for split in shorter.values()]
        distinct = all(joined) and len(set(joined)) == len(joined)
        if holders[word] > MOSTLY * len(parts) and distinct:
            parts = shorter
    return {name: ".".join(split) for name, split in parts.items()}


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sort key of dotted names: words before numbers, and ``model.2`` before ``model.10``."""
    return [
        (1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"[./]", name)
    ]
