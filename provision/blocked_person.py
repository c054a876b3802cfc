"""Take every right at one participant from one person, whose key may be in other hands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedi2i.errors import ConfigError
from fedi2i.files import write_text
from provision.permissions import NOBODY

Conditions = str | list[str]


def block_person(kit: Path, name: str) -> Path:
    """Write the rights of a participant anew without those of a person; returns the file.

    NVFlare has no revocation list, but every participant judges by its own file. It is read when
    the participant starts.

    Args:
        kit: the participant's installed kit.
        name: the person, as in the project file.

    Raises:
        ConfigError: the kit has no such file, it is damaged, or the name cannot be one.
    """
    path = kit / "local" / "authorization.json"
    if not name or name.split() != [name] or ":" in name:
        raise ConfigError(f"'{name}': give the person's name as in the project file")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the installed kit of a server or site")
    try:
        policy = json.loads(path.read_text(encoding="utf-8"))
        changed = without_person(policy, name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: damaged; unpack the kit again") from error
    write_text(path, json.dumps(changed, indent=2) + "\n")
    return path


def without_person(policy: dict[str, Any], name: str) -> dict[str, Any]:
    """The same policy with the person shut out of every right of every role."""
    return {
        **policy,
        "permissions": {
            role: {right: _without(given, name) for right, given in rights.items()}
            if isinstance(rights, dict)
            else _without(rights, name)  # NVFlare's short form: one condition for every right
            for role, rights in policy["permissions"].items()
        },
    }


def _without(given: Conditions, name: str) -> Conditions:
    conditions = [given] if isinstance(given, str) else list(given)
    shut_out = f"not n:{name}"
    if conditions == [NOBODY] or shut_out in conditions:
        return given
    return [*conditions, shut_out]
