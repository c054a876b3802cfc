"""``privacy.json``: a site's own filters. They run on every job, before the job's filters.

A job's ``AllowedUpdate`` names what this job shares; the site's policy names the most that any of
our jobs may share. So a job that asks for more is stopped at the site, whatever its own filters.
"""

from __future__ import annotations

from typing import Any

from app_custom.gates.site_policy import ANSWERS_GATE, MESSAGES_GATE
from lightning_modules.model_networks import MODELS
from lightning_modules.strategies.catalogue import EXTRAS

SCOPE = "fedi2i"
"""The one privacy scope. A job that names another is refused; one that names none gets this."""


def privacy_policy() -> dict[str, Any]:
    """The content of ``privacy.json``."""
    most = {
        "networks": [name for model in MODELS.values() for name in model.names],
        "arrays": list(EXTRAS),
    }
    return {
        "scopes": [
            {
                "name": SCOPE,
                "properties": {},
                "task_result_filters": [{"path": ANSWERS_GATE, "args": most}],
                # In a swarm sites send to each other; NVFlare filters those messages as data.
                "task_data_filters": [{"path": MESSAGES_GATE, "args": most, "direction": "out"}],
            }
        ],
        "default_scope": SCOPE,
    }
