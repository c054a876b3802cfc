"""How long the server takes a silent site for alive."""

from __future__ import annotations

from typing import Any

HEARTBEAT_TIMEOUT_SECONDS = 120
"""Sites send a heartbeat every ten seconds. NVFlare's default, 600, leaves a round waiting for ten
minutes for a machine that has crashed. Two minutes outlast a cable that is plugged in again."""


def with_heartbeat_timeout(server_config: dict[str, Any]) -> dict[str, Any]:
    """The server's ``fed_server.json`` with our timeout."""
    servers = [
        {**server, "heart_beat_timeout": HEARTBEAT_TIMEOUT_SECONDS}
        for server in server_config["servers"]
    ]
    return {**server_config, "servers": servers}
