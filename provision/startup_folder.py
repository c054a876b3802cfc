"""What we change in the ``startup`` folder of a kit, which we sign afterwards.

- A participant that must not start says so and does not. With a certificate that is not valid now
  NVFlare 2.9 fails in a background thread without a word, and the participant waits for ever:
  nothing in its log, nothing at the server. A site whose privacy policy is lost would run as one
  that limits nothing.
- The server takes a silent site for lost after two minutes.
- NVFlare 2.9 signs kits only for confidential computing and homomorphic encryption. Where it finds
  ``startup/signature.json`` it refuses to start from a file that was changed, so we sign every kit.
  ``local`` is not signed: it is the participant's to edit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from nvflare.lighter.utils import sign_folders, verify_folder_signature

from fedi2i.errors import ConfigError
from fedi2i.files import write_text

HEARTBEAT_TIMEOUT_SECONDS = 120
"""Sites send a heartbeat every ten seconds. NVFlare's default, 600, leaves a round waiting for ten
minutes for a machine that has crashed. Two minutes outlast a cable that is plugged in again."""

SUB_START = "sub_start.sh"
"""The script that every way of starting a server or site goes through."""

_SERVER_CONFIG = "fed_server.json"
_SIGNATURE = "signature.json"
_AFTER = 'SOURCE_WORKSPACE="$( cd "$DIR/.." >/dev/null 2>&1 && pwd )"\n'
_CHECK = 'python3 -m provision check "$SOURCE_WORKSPACE" --before-start || exit 2\n'


def complete_startup(startup: Path, root_key: RSAPrivateKey, heartbeat_timeout: int) -> None:
    """Put our check and our heartbeat timeout into a kit's ``startup`` folder, then sign it.

    Args:
        startup: the folder as NVFlare's builders left it.
        root_key: the private key of the project's authority.
        heartbeat_timeout: seconds of silence after which the server takes a site for lost.

    Raises:
        ConfigError: its start script is not the one of NVFlare 2.9.
    """
    script, server = startup / SUB_START, startup / _SERVER_CONFIG
    if script.is_file():  # people's kits start nothing
        script.write_text(with_check(script.read_text(encoding="utf-8")))
    if server.is_file():
        config = json.loads(server.read_text(encoding="utf-8"))
        timed = with_heartbeat_timeout(config, heartbeat_timeout)
        write_text(server, json.dumps(timed, indent=2) + "\n")
    sign_startup(startup, root_key)


def with_check(script: str) -> str:
    """NVFlare's start script, with our check before anything else.

    Raises:
        ConfigError: the script is not the one of NVFlare 2.9.
    """
    if script.count(_AFTER) != 1:
        raise ConfigError(
            f"{SUB_START}: not as NVFlare 2.9 writes it; install the pinned version: "
            "pip install -r requirements.txt"
        )
    return script.replace(_AFTER, _AFTER + _CHECK)


def with_heartbeat_timeout(server_config: dict[str, Any], seconds: int) -> dict[str, Any]:
    """The server's ``fed_server.json`` with our timeout."""
    servers = [{**server, "heart_beat_timeout": seconds} for server in server_config["servers"]]
    return {**server_config, "servers": servers}


def sign_startup(startup: Path, root_key: RSAPrivateKey) -> None:
    """Write ``signature.json`` for all files of a kit's ``startup`` folder."""
    sign_folders(str(startup), root_key, signature_file=_SIGNATURE)


def startup_is_genuine(startup: Path) -> bool:
    """Whether every file is as it was signed by the authority whose certificate lies beside it."""
    root = startup / "rootCA.pem"
    return bool(
        verify_folder_signature(
            str(startup), str(root), single_signer=True, signature_file=_SIGNATURE
        )
    )
