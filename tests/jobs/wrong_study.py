"""A study's file with one mistake in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedi2i.errors import ConfigError


def refusal(read: Callable[[Path], object], file: Path, text: str, old: str, new: str) -> str:
    """What reading says of ``text`` with ``new`` in the first place of ``old``.

    Args:
        read: the reader of the file.
        file: where the text is written.
        text: a file that can be read.
        old: some of it.
        new: the mistake.
    """
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read(file)
    return str(caught.value)
