"""One value of a JSON object, of the type a reader of run files expects."""

from __future__ import annotations

from typing import Any

from report.errors import ReportError

_MISSING = object()


def value_of(content: Any, key: str, expected: type, where: str, default: Any = _MISSING) -> Any:
    """One value of the expected type; null or absent gives the default where there is one.

    Raises:
        ReportError: the content is no object, or the key is missing or of another type.
    """
    if not isinstance(content, dict):
        raise ReportError(f"{where}: expected a JSON object, found {content!r}")
    value = content.get(key)
    if value is None:
        if default is _MISSING:
            raise ReportError(f"{where}: key '{key}' is missing; write the run folder again")
        return default
    accepted = (int, float) if expected is float else (expected,)
    if not isinstance(value, accepted) or (expected is not bool and isinstance(value, bool)):
        raise ReportError(
            f"{where}: key '{key}' is {value!r}, expected a value of type {expected.__name__}"
        )
    return value
