"""Check a kit's way to the server: its proxy, and whether the server can be found at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from app_custom.participant.proxy import proxy_in
from app_custom.participant.site_configuration import FILE_NAME, read_site_config
from fedi2i.errors import ConfigError
from provision.kit import Kit
from provision.local_policy import SERVER_ROUTE


def proxy(kit: Kit) -> Iterator[str]:
    """A participant whose proxy cannot be used would ask for the server without end."""
    own_file = kit.folder / "local" / FILE_NAME
    if kit.kind == "server" or proxy_in(own_file) is None:
        return
    if kit.kind == "admin":
        read_site_config(own_file.parent)  # a site's is read with its data
    resources = kit.resources
    parts = [*resources.get("components", []), *resources.get("handlers", [])]
    if SERVER_ROUTE not in [part.get("path") for part in parts]:
        raise ConfigError(
            f"{kit.folder / 'local/resources.json'}: it lacks {SERVER_ROUTE}, so 'proxy' in "
            f"{FILE_NAME} would not count; take the file from a kit that this version makes"
        )
    yield f"proxy: {FILE_NAME} names one"


def way_to_server(kit: Kit) -> Iterator[str]:
    """Whether the server's name is known here, or the proxy leads to it."""
    if kit.kind == "server":
        return
    host, port = kit.address
    found = proxy_in(kit.folder / "local" / FILE_NAME)
    if found is not None:  # the proxy looks up the server's name
        from app_custom.participant.proxy_driver import try_way

        try_way(kit.folder / "startup", host, port, found)
        yield f"server: {host}:{port} answers through {found.url}, with TLS from end to end"
        return
    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        raise ConfigError(
            f"server name '{host}' does not resolve on this machine; ask your network's "
            "administrators for it, or add it to the hosts file"
        ) from error
    yield f"server: {host} resolves; 'nvflare preflight-check -p {kit.folder}' tries to connect"
