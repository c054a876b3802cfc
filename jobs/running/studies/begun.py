"""What an earlier call wrote into the folder of a study: the same command goes on with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedi2i.errors import ConfigError, DataError


def begun_record(
    path: Path, design: Mapping[str, Any], kept: Mapping[str, Callable[[Any], object]], why: str
) -> dict[str, Any]:
    """The record of a study that has begun. More seeds may join it; nothing else may change.

    Args:
        path: the record, a JSON file with the keys ``design`` and ``created`` among others.
        design: of the call; holds what JSON can hold.
        kept: further keys that the record must have, and what raises an error for a wrong value.
        why: what another design would spoil, as a clause.

    Raises:
        DataError: the file is damaged.
        ConfigError: it belongs to a study of another design. A key that only one of the two has is
            a difference, too.
    """
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
        earlier, _ = dict(found["design"]), str(found["created"])
        for key, check in kept.items():
            check(found[key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); run the study into a new folder") from error
    keys = [*design, *(key for key in earlier if key not in design)]
    differing = [key for key in keys if earlier.get(key) != design.get(key)]
    if differing:
        raise ConfigError(
            f"{path}: this folder holds a study with another {', '.join(differing)}; {why}: take a "
            "new folder"
        )
    return found
