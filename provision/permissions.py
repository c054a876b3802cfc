"""``authorization.json``: what each role may do at a participant, which enforces it itself.

``o:site`` is "users of the site's own organisation", ``n:submitter`` is "whoever submitted the
job", ``o:submitter`` is "users of the submitter's organisation".

Nobody may bring code (``byoc``), and nobody may read a site's files through the console
(``shell_commands``: ``ls``, ``cat``, ``grep`` and the like), since file names and logs can name
patients; for the same reason a site's errors (``show_errors``) are for its own organisation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedi2i.errors import ConfigError
from fedi2i.files import write_text

Conditions = str | list[str]

NOBODY = "none"
ANYBODY = "any"

_NEVER = {"shell_commands": NOBODY, "byoc": NOBODY, "server-predeployed-flwr": NOBODY}
_VIEW = {"view": ANYBODY, "show_errors": "o:site"}

PERMISSIONS: dict[str, Any] = {
    "format_version": "1.0",
    "permissions": {
        "project_admin": {
            "submit_job": ANYBODY,
            "clone_job": ANYBODY,
            "manage_job": ANYBODY,
            "download_job": ANYBODY,
            **_VIEW,
            "operate": ANYBODY,
            **_NEVER,
        },
        "org_admin": {
            "submit_job": NOBODY,
            "clone_job": NOBODY,
            "manage_job": "o:submitter",
            "download_job": "o:submitter",
            **_VIEW,
            "operate": "o:site",
            **_NEVER,
        },
        "lead": {
            "submit_job": ANYBODY,
            "clone_job": "n:submitter",
            "manage_job": "n:submitter",
            "download_job": "n:submitter",
            **_VIEW,
            "operate": "o:site",
            **_NEVER,
        },
        "member": {"view": ANYBODY, "show_errors": NOBODY},
    },
}


def forbidden_rights(policy: dict[str, Any]) -> str:
    """The first right to code or shell that a policy grants somebody, in words; empty if none."""
    roles = policy.get("permissions")
    if not isinstance(roles, dict):
        return "it has no permissions"
    for role, rights in roles.items():
        if not isinstance(rights, dict):
            return f"role '{role}' has every right at once"
        for right in _NEVER:
            given = rights.get(right, NOBODY)  # what is not listed is not granted
            if given not in (NOBODY, [NOBODY]):
                return f"role '{role}' has the right '{right}'"
    return ""


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
