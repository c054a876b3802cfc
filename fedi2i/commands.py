"""What all our command lines share: one sentence per mistake, an exit code, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from fedi2i.errors import ConfigError, UserError

USER_ERROR = 2
INTERRUPTED = 130


STOPPED = "stopped; the same command goes on from here"


def run_command(command: Callable[[], None], stopped: str = STOPPED) -> int:
    """Run a command; returns 0 done, 2 a mistake the user can correct, 130 stopped by Ctrl-C.

    Args:
        command: what to run.
        stopped: what to say after Ctrl-C.
    """
    try:
        command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:
        place = error.filename or "data"
        reason = error.strerror or str(error)
        print(f"error: {place}: {reason}; check room and permissions there", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return INTERRUPTED
    return 0


def name_and_path(text: str, option: str, example: str) -> tuple[str, Path]:
    """Read an option's ``name=path``.

    Raises:
        ConfigError: one of the two is missing.
    """
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise ConfigError(f"{option} {text}: write {example}")
    return name, Path(path)
