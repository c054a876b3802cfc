"""A participant that must not start says so and does not.

With a certificate that is not valid now NVFlare 2.9 fails in a background thread without a word,
and the participant waits for ever: nothing in its log, nothing at the server. A site whose privacy
policy is lost would run as one that limits nothing.
"""

from __future__ import annotations

from fedi2i.errors import ConfigError

SUB_START = "sub_start.sh"
"""The script that every way of starting a server or site goes through."""

_AFTER = 'SOURCE_WORKSPACE="$( cd "$DIR/.." >/dev/null 2>&1 && pwd )"\n'
_CHECK = 'python3 -m provision check "$SOURCE_WORKSPACE" --before-start || exit 2\n'


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
