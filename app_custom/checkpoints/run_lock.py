"""Two jobs with the same name and settings would share one run's files: only one may run."""

from __future__ import annotations

import fcntl
from pathlib import Path

from fedi2i.errors import UserError


class RunLock:
    """Holds a run for this process. The system lets go of it when the process ends, however.

    Args:
        path: the lock's file.

    Raises:
        UserError: another process holds the run.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("w")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._stream.close()
            raise UserError(
                "a job with the same name, sites and settings is running; wait for its end or "
                "abort it, or give this one another name or seed"
            ) from error

    def release(self) -> None:
        """Let another job have the run."""
        self._stream.close()
