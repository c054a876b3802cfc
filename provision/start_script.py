"""A participant whose certificate is not valid now says so and does not start.

NVFlare 2.9 notices it in a background thread that dies without a word, and the participant waits
for ever: nothing in its log, nothing at the server.
"""

from __future__ import annotations

from partitions.errors import ConfigError

SUB_START = "sub_start.sh"
"""The script that every way of starting a server or site goes through."""

_AFTER = 'SOURCE_WORKSPACE="$( cd "$DIR/.." >/dev/null 2>&1 && pwd )"\n'
_CHECK = 'python3 -m provision check "$SOURCE_WORKSPACE" --certificate-only || exit 2\n'


def with_certificate_check(script: str) -> str:
    """NVFlare's start script, with the check before anything else.

    Raises:
        ConfigError: the script is not the one of NVFlare 2.9.
    """
    if script.count(_AFTER) != 1:
        raise ConfigError(
            f"{SUB_START}: not as NVFlare 2.9 writes it; install the pinned version: "
            "pip install -r requirements.txt"
        )
    return script.replace(_AFTER, _AFTER + _CHECK)
