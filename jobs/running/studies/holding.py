"""One command at a time on a study's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fedi2i.errors import ConfigError

LOCK_FILE = "study.lock"


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold a study's folder while a command runs it.

    Two commands with other seeds would each write ``study.json`` and ``results.csv`` for what they
    know of. The operating system frees the folder when the process ends in any way. A new
    folder that holds nothing else afterwards is taken away again.

    Args:
        out: the study's folder; it is made where it is missing.

    Raises:
        ConfigError: another command holds it, or no file can be locked there.
    """
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    path = out / LOCK_FILE
    lock = FileLock(path, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigError(
            f"{out}: another 'fedi2i study' is running it; wait for its end, or take a new folder"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise ConfigError(
            f"{out}: no file can be locked there ({error}); put the study on a file system with "
            "locks"
        ) from error
    try:
        yield
    finally:
        unused = is_new and [*out.iterdir()] == [path]
        if unused:
            path.unlink()
        lock.release()
        if unused:
            with suppress(OSError):  # another command may have begun in it meanwhile
                out.rmdir()
