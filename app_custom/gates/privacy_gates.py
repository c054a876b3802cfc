"""Whether a site's ``privacy.json`` holds the gates: NVFlare takes a missing one for no limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ANSWERS_GATE = "app_custom.gates.site_policy.SitePolicy"
MESSAGES_GATE = "app_custom.gates.allowed_peer_message.AllowedPeerMessage"


def policy_fault(path: Path | None) -> str:
    """Why a policy's file would not limit what jobs send; empty if it does."""
    try:
        policy = json.loads(path.read_text(encoding="utf-8")) if path else None
    except (OSError, ValueError):
        policy = None
    if not isinstance(policy, dict):
        return "it is missing or damaged"
    return missing_gates(policy)


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
            ("task_result_filters", ANSWERS_GATE, (None, "out", "inout")),
            ("task_data_filters", MESSAGES_GATE, ("out", "inout")),
        ):
            filters = [found for found in scope.get(key) or [] if isinstance(found, dict)]
            ours = [found for found in filters if found.get("path") == gate]
            if not any(found.get("direction") in directions for found in ours):
                return f"scope '{scope.get('name')}' lacks {gate}, for what goes out, in its {key}"
    return ""
