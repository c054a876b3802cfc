"""``authorization.json``: what each role may do at a participant, which enforces it itself.

``o:site`` is "users of the site's own organisation", ``n:submitter`` is "whoever submitted the
job", ``o:submitter`` is "users of the submitter's organisation".

Nobody may bring code (``byoc``), and nobody may read a site's files through the console
(``shell_commands``: ``ls``, ``cat``, ``grep`` and the like), since file names and logs can name
patients; for the same reason a site's errors (``show_errors``) are for its own organisation.
"""

from __future__ import annotations

from typing import Any

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
