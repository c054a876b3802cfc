"""Walk a folder that somebody else filled, in a fixed order and past links that go in circles."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from fedi2i.errors import DataError

logger = logging.getLogger(__name__)


def source_folder(path: Path, what: str) -> Path:
    """The folder that a person gave.

    Args:
        path: what was given.
        what: what it should be, as in "give the folder ...".

    Raises:
        DataError: there is no such folder.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such data folder; give {what}")
    return path


def files_below(folder: Path, skip: Collection[str] = ()) -> Iterator[Path]:
    """All files below a folder, in the order of their names.

    Links to folders are followed. Each folder is entered once, and none of those that ``folder``
    itself lies in, so that links in circles end and do not lead to what belongs to others. A folder
    that may not be read is named in the log and passed over.

    Args:
        folder: where to begin.
        skip: names of folders that are not entered, in lower case. Hidden ones never are.
    """
    entered = {str(parent) for parent in folder.resolve().parents}
    for place, below, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(place)
        if real in entered:
            below.clear()
            continue
        entered.add(real)
        below[:] = sorted(n for n in below if not n.startswith(".") and n.lower() not in skip)
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(place, name)


def in_natural_order(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts ``slice2`` before ``slice10``, and what has no number by its letters."""
    parts = re.split(r"(\d+)", text)
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p.lower()) for p in parts if p)


def _unreadable(error: OSError) -> None:
    logger.warning("%s: cannot be read (%s) and is passed over", error.filename, error.strerror)
