"""Is a port free? Asked before anything starts."""

from __future__ import annotations

import errno
import socket

from fedi2i.errors import ConfigError

HOST = "localhost"


def check_port_free(port: int) -> None:
    """Refuse a port that cannot be listened on.

    Raises:
        ConfigError: it is in use, or no port at all.
    """
    if not 1024 <= port <= 65535:
        raise ConfigError(f"port {port}: choose one from 1024 to 65535, e.g. --port 8102")
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        if _in_use(family, address, port):
            raise ConfigError(
                f"port {port} is in use on this machine; stop what listens there or choose "
                f"another, e.g. --port {port + 100 if port < 65000 else port - 100}"
            )


def is_listening(port: int) -> bool:
    """Whether something on this machine accepts connections on the port."""
    with socket.socket() as asked:
        asked.settimeout(1.0)
        return asked.connect_ex((HOST, port)) == 0


def _in_use(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        with socket.socket(family) as asked:
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            asked.bind((address, port))
    except PermissionError:
        return True
    except OSError as error:
        # A machine without IPv6 cannot use the port there either.
        return error.errno == errno.EADDRINUSE
    return False
