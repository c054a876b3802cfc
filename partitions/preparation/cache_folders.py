"""Folders of prepared slices: which they are, who is using them, how they are taken away."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from fedi2i.errors import DataError
from partitions.preparation.prepared import RECORD_NAME

SUBJECT_FILES = "parts"
"""Folder of the subjects' files while a preparation is not finished."""
_NAME = re.compile(r"[0-9a-f]{12}")
_REMOVED = ".removing-"


def is_cache(folder: Path) -> bool:
    """Whether a folder holds prepared slices, finished or not."""
    named = folder.is_dir() and _NAME.fullmatch(folder.name)
    return bool(named) and ((folder / RECORD_NAME).is_file() or (folder / SUBJECT_FILES).is_dir())


def lock_of(folder: Path) -> Path:
    """The file that a process holds while it writes or uses a folder."""
    return folder.with_name(f"{folder.name}.lock")


def hold(folder: Path) -> IO[bytes] | None:
    """Hold a cache for as long as the returned file is open, beside others that hold it, too.

    The operating system lets go when the process ends in any way. Where nothing can be written, as
    on a read-only disk, nothing is held: nobody can remove the cache there either.

    Raises:
        DataError: the cache is being removed.
    """
    try:
        stream = lock_of(folder).open("ab")
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.close()
            raise DataError(f"{folder}: is being removed; start the job again") from error
    except OSError:
        return None
    return stream


@contextmanager
def nobody_uses(folder: Path) -> Iterator[None]:
    """Keep a folder from being used while the block runs.

    Raises:
        DataError: a process is using it.
    """
    try:
        with FileLock(lock_of(folder), blocking=False):
            yield
    except Timeout as error:
        raise DataError(
            f"{folder}: a job is using it; wait for its end, or abort it, and try again"
        ) from error


def remove_folder(folder: Path) -> None:
    """Take a folder and its lock away; at no time is half of it to be found under its name.

    Raises:
        OSError: this account may not.
    """
    doomed = folder.with_name(f"{_REMOVED}{folder.name}")
    if doomed.exists():
        shutil.rmtree(doomed)
    folder.replace(doomed)
    shutil.rmtree(doomed)
    lock_of(folder).unlink(missing_ok=True)


def half_removed(root: Path) -> tuple[Path, ...]:
    """What an interrupted `remove_folder` has left directly below a folder."""
    return tuple(sorted(root.glob(f"{_REMOVED}*")))
