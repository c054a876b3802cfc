"""Write files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import csv
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
PRIVATE_FILE = 0o600
"""Permissions of a file that only the account that wrote it may read."""


def lacks_room(error: OSError) -> bool:
    """Whether a write failed because the disk, a quota or a limit of file sizes is exhausted."""
    return error.errno in _NO_ROOM


def not_written(path: Path, error: OSError, size: str = "") -> str:
    """Why a file of a running job could not be written, and what to do, in a sentence.

    Args:
        path: the file.
        error: what the system said.
        size: of the file, e.g. ``for 5 bytes``.
    """
    if lacks_room(error):
        return (
            f"{path.parent}: no space left on device {size or f'for {path.name}'}; make room and "
            "start the job again, finished rounds are kept"
        )
    return f"{path.parent}: cannot be written ({error.strerror}); correct its permissions"


def private_folder(path: Path) -> None:
    """Make a folder that only this account may enter, or make one so that is there."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)


def real_path(path: Path) -> Path:
    """Where a path leads, like ``Path.resolve``, which ends with an error at links in circles."""
    return Path(os.path.realpath(path))


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it over ``path`` on success.

    The temporary file ends with the suffixes of ``path`` (``.nii.gz`` stays ``.nii.gz``), so that
    writers which look at the name behave the same. It is removed if the block raises. Until the end
    only this account may read it.

    Args:
        path: the file.
        mode: its permissions.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=".writing-", suffix="".join(path.suffixes[-2:])
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write ``text`` to ``path`` atomically, in UTF-8, with these permissions."""
    with replacing(path, mode) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table to ``path`` atomically, in UTF-8, with commas."""
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
