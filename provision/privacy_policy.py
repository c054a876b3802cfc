"""``privacy.json``: a site's own filters. They run on every job, before the job's filters.

A job's ``AllowedUpdate`` names what this job shares; the site's policy names the most that any of
our jobs may share. So a job that asks for more is stopped at the site, whatever its own filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_modules.model_networks import MODELS

SCOPE = "fedi2i"
"""The one privacy scope. A job that names another is refused; one that names none gets this."""

STRATEGY_ARRAYS = ("control",)
"""What strategies send beside parameters: SCAFFOLD's control variates."""

_ANSWERS = "app_custom.filters.site_policy.SitePolicy"
_MESSAGES = "app_custom.filters.allowed_peer_message.AllowedPeerMessage"


def privacy_policy() -> dict[str, Any]:
    """The content of ``privacy.json``."""
    most = {
        "networks": [name for model in MODELS.values() for name in model.names],
        "arrays": list(STRATEGY_ARRAYS),
    }
    return {
        "scopes": [
            {
                "name": SCOPE,
                "properties": {},
                "task_result_filters": [{"path": _ANSWERS, "args": most}],
                # In a swarm sites send to each other; NVFlare filters those messages as data.
                "task_data_filters": [{"path": _MESSAGES, "args": most, "direction": "out"}],
            }
        ],
        "default_scope": SCOPE,
    }


def missing_gates(policy: Mapping[str, Any]) -> str:
    """What a site's ``privacy.json`` lacks to stop what is not listed; empty if nothing.

    A site may shorten the lists, add filters, and add scopes that have the gates as well.
    """
    scopes = policy.get("scopes")
    if not isinstance(scopes, list) or not all(isinstance(scope, dict) for scope in scopes):
        return "it has no list of scopes"
    if policy.get("default_scope") not in [scope.get("name") for scope in scopes]:
        return "its default_scope is none of its scopes"
    for scope in scopes:
        for key, gate, directions in (
            # Without a direction NVFlare filters answers on their way out, and data on its way in.
            ("task_result_filters", _ANSWERS, (None, "out", "inout")),
            ("task_data_filters", _MESSAGES, ("out", "inout")),
        ):
            filters = [found for found in scope.get(key) or [] if isinstance(found, dict)]
            ours = [found for found in filters if found.get("path") == gate]
            if not any(found.get("direction") in directions for found in ours):
                return f"scope '{scope.get('name')}' lacks {gate}, for what goes out, in its {key}"
    return ""
