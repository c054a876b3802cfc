"""The name of a run: what one job with its settings and sites keeps its files under."""

from __future__ import annotations

import re

from fedi2i.errors import ConfigError


def checked_run_name(name: str) -> str:
    """The name, if it can be a folder's and is no path: it comes with the job.

    Raises:
        ConfigError: it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ConfigError(f"run_name '{name}': use letters, digits, '_', '-' and '.'")
    return name
