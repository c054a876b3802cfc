"""What an experiment's recorded settings say, as far as they say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TIMES = " \N{MULTIPLICATION SIGN} "


def setting(experiment: Mapping[str, Any], dotted: str) -> Any:
    """The value at ``data.preparation.size``; None where it is not recorded."""
    value: Any = experiment
    for key in dotted.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def numbers_text(value: Any, between: str) -> str:
    """A number as it is, several ones with a word between them: ``16, 32``."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return between.join(f"{item:g}" if isinstance(item, float) else str(item) for item in values)
