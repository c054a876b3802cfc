"""The HTTP proxy that a participant must go through: its address, and who may pass it.

Most hospitals let nothing out but through an HTTP proxy. The address stands in the participant's
own ``local/fedi2i.yaml``, the user and the password in its environment alone: files are copied,
backed up and shown.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from fedi2i.errors import ConfigError
from fedi2i.typed_config import read_yaml

KEY = "proxy"
"""The key in ``local/fedi2i.yaml``."""

USER = "FEDI2I_PROXY_USER"
PASSWORD = "FEDI2I_PROXY_PASSWORD"
"""The environment variables for a proxy that asks who one is (Basic authentication)."""

_WRITE = "write http://<host>:<port>, e.g. http://proxy.hospital.org:3128"


@dataclass(frozen=True)
class Proxy:
    """A proxy and the login for it.

    Attributes:
        url: ``http://host:port``.
        user: empty where the proxy asks nobody who they are.
        password: its representation never shows it.
    """

    url: str
    user: str = ""
    password: str = field(default="", repr=False)


def checked_proxy(url: str) -> str:
    """Return a proxy's address if it is one, and nothing besides.

    Raises:
        ConfigError: it holds a user or a password, or is no ``http://host:port``.
    """
    if "@" in url:  # not shown: it may be a password
        raise ConfigError(
            f"'{KEY}' holds a user or a password; {_WRITE}, and put them into the environment "
            f"variables {USER} and {PASSWORD} of the account that starts this participant"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # the port is no number, or none that exists
        parts, port = urlsplit(""), None
    if parts.scheme == "https":
        raise ConfigError(
            f"'{KEY}' is {url}: the proxy itself is asked in HTTP, and TLS goes through it to the "
            f"server; {_WRITE}"
        )
    further = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme != "http" or not parts.hostname or not port or further:
        raise ConfigError(f"'{KEY}' is {url}, which is no address of an HTTP proxy; {_WRITE}")
    return f"http://{parts.netloc}"


def proxy_in(own_file: Path, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy that a participant's own file names, with the login from the environment.

    No other key of the file is judged: a mistake elsewhere in it must not cut a participant off.

    Args:
        own_file: ``local/fedi2i.yaml``; none is as one without a proxy.
        environment: where user and password are looked up.

    Raises:
        ConfigError: the address is none, or one of user and password is missing.
    """
    url = read_yaml(own_file).get(KEY) if own_file.is_file() else None
    if url is None:
        return None
    try:
        address = checked_proxy(str(url))
    except ConfigError as error:
        raise ConfigError(f"{own_file}: {error}") from error
    user, password = environment.get(USER, ""), environment.get(PASSWORD, "")
    if bool(user) != bool(password) or ":" in user:
        raise ConfigError(
            f"{own_file}: for the proxy set both {USER} and {PASSWORD} or neither; the user has "
            "no ':'"
        )
    return Proxy(address, user, password)
