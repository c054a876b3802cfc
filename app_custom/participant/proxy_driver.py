"""Connections to the server through an HTTP proxy (CONNECT), with TLS from end to end.

NVFlare 2.9's HTTP driver knows no proxy. ``ServerRoute`` stands in every kit's
``local/resources.json``, so that NVFlare builds it before the first connection in each process that
connects to the server: the site's own, those of its jobs, the admin console and ``nvflare job``.
It puts ``ProxyHttpDriver`` in the place of NVFlare's driver. Without a proxy in the participant's
own file that driver does what NVFlare's does.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from pathlib import Path
from typing import Any

import aiohttp
from nvflare.apis.fl_component import FLComponent
from nvflare.fuel.f3 import drivers
from nvflare.fuel.f3.communicator import driver_mgr
from nvflare.fuel.f3.drivers.aio_http_driver import WS_PATH, AioHttpDriver
from nvflare.fuel.f3.drivers.driver import ConnectorInfo
from nvflare.fuel.f3.drivers.driver_params import DriverParams
from nvflare.fuel.f3.drivers.net_utils import get_ssl_context
from nvflare.fuel.hci.client.event import EventHandler

from app_custom.participant.proxy import PASSWORD, USER, Proxy, proxy_in
from app_custom.participant.site_configuration import FILE_NAME
from fedi2i.errors import ConfigError, UserError

_LOG = logging.getLogger(__name__)
_TRY_SECONDS = 20.0


class NoWayError(UserError):
    """The server cannot be reached through the proxy; the sentence says what stands in the way."""


class ProxyHttpDriver(AioHttpDriver):
    """NVFlare's HTTP driver, which connects through the participant's proxy if there is one.

    NVFlare tries again without end, and keeps its first failures to itself. The first one is
    logged here, so that a person at a console reads it before the console gives up.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told = False

    def connect(self, connector: ConnectorInfo) -> None:
        """Connect to the server and stay until the connection is closed.

        Raises:
            ConfigError: the participant's own file names no possible proxy.
            NoWayError: the proxy, or what is behind it, refuses.
        """
        proxy = proxy_in(_own_file(connector.params))
        if proxy is None:
            super().connect(connector)
            return
        self.connector = connector
        self.ssl_context = get_ssl_context(connector.params, False)
        if self.ssl_context is None:
            raise ConfigError("through a proxy the server is reached over TLS only")
        self.aio_context.run_coro(self._connect_through(proxy)).result()

    async def _connect_through(self, proxy: Proxy) -> None:
        server = _server(self.connector.params)
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(
                    f"wss://{server}/{WS_PATH}", ssl=self.ssl_context, **_proxied(proxy)
                ) as websocket,
            ):
                self._told = True  # a server that goes away later is NVFlare's to report
                await self._connection_handler(websocket)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = why_no_way(error, proxy, server)
            if not self._told:
                _LOG.warning("%s", reason)
                self._told = True
            raise NoWayError(reason) from error


class ServerRoute(FLComponent, EventHandler):
    """Makes this process connect to the server by the participant's own way, proxy or not.

    It is a component of a site's ``resources.json`` and a handler of a console's: all that it does,
    it does when it is built.
    """

    def __init__(self) -> None:
        super().__init__()
        # NVFlare loads its drivers at the first connection and keeps those that are there. Not by
        # its load_comm_drivers, which would read its configuration before there is one.
        driver_mgr.search_folder(str(Path(drivers.__file__).parent), drivers.__package__)
        for scheme in ProxyHttpDriver.supported_transports():
            driver_mgr.drivers[scheme] = ProxyHttpDriver

    def handle_event(self, event_type: str, ctx: Any) -> None:
        """Nothing is left to do."""


def try_way(startup: Path, host: str, port: int, proxy: Proxy) -> None:
    """Ask the server for a page through the proxy, with a kit's certificate.

    Args:
        startup: the kit's ``startup`` folder.
        host: the server's.
        port: the server's.
        proxy: the participant's.

    Raises:
        NoWayError: the server did not answer; what stands in the way.
    """
    params = {
        DriverParams.SCHEME.value: "https",
        DriverParams.SECURE.value: True,
        DriverParams.CA_CERT.value: str(startup / "rootCA.pem"),
        DriverParams.CLIENT_CERT.value: str(startup / "client.crt"),
        DriverParams.CLIENT_KEY.value: str(startup / "client.key"),
    }
    asyncio.run(_ask(f"{host}:{port}", get_ssl_context(params, False), proxy))


async def _ask(server: str, context: ssl.SSLContext, proxy: Proxy) -> None:
    timeout = aiohttp.ClientTimeout(total=_TRY_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"https://{server}/", ssl=context, **_proxied(proxy)),
        ):
            pass  # whatever page there is: somebody of this project sent it
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise NoWayError(why_no_way(error, proxy, server)) from error


def why_no_way(error: Exception, proxy: Proxy, server: str) -> str:
    """What stands in the way to the server, in a sentence.

    Args:
        error: what aiohttp raised.
        proxy: the proxy that was asked.
        server: ``host:port``.
    """
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _refusal(error, proxy, server)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            f"what answers for {server} through the proxy {proxy.url} has a certificate of another "
            "authority than this project's: the proxy opens TLS to read it (TLS inspection), or "
            "the name leads elsewhere; ask your network's administrators to leave the connection "
            "as it is"
        )
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientConnectorDNSError):
        if isinstance(error.os_error, socket.gaierror | aiohttp.ClientConnectorDNSError):
            return (
                f"the name of the proxy {proxy.url} does not resolve on this machine; correct "
                f"'proxy' in local/{FILE_NAME}"
            )
        return (
            f"the proxy {proxy.url} cannot be reached ({error.strerror}); correct 'proxy' in "
            f"local/{FILE_NAME}, or ask your network's administrators"
        )
    if isinstance(error, TimeoutError):
        return f"no answer from {server} through the proxy {proxy.url} within the time"
    return (
        f"the connection to {server} through the proxy {proxy.url} broke off "
        f"({type(error).__name__}: {error}): the server does not take this kit's certificate, or "
        "what listens there is no HTTP proxy"
    )


def _refusal(error: aiohttp.ClientHttpProxyError, proxy: Proxy, server: str) -> str:
    """The proxy's own answer to CONNECT, in a sentence."""
    host, _, port = server.rpartition(":")
    if error.status == 407:
        return _login_wanted(error, proxy)
    if error.status == 403:
        return (
            f"the proxy {proxy.url} forbids the way to {server} (403); ask your network's "
            f"administrators to allow CONNECT to {host}, port {port}"
        )
    if error.status in (500, 502, 503, 504):
        return (
            f"the proxy {proxy.url} does not get through to {server} ({error.status} "
            f"{error.message}): it does not resolve the name '{host}', or the server is down"
        )
    return (
        f"the proxy {proxy.url} refuses CONNECT to {server} ({error.status} {error.message}); ask "
        "your network's administrators"
    )


def _login_wanted(error: aiohttp.ClientHttpProxyError, proxy: Proxy) -> str:
    offered = [] if error.headers is None else error.headers.getall("Proxy-Authenticate", [])
    kinds = [text.split()[0] for text in offered if text.strip()]
    if kinds and "basic" not in (kind.lower() for kind in kinds):
        return (
            f"the proxy {proxy.url} asks for a login of the kind {', '.join(kinds)} (407), and "
            "FedI2I speaks Basic alone; ask for Basic, for an exception for this machine, or run a "
            "forwarder that speaks it"
        )
    if proxy.user:
        return (
            f"the proxy {proxy.url} does not take the user '{proxy.user}' with this password "
            f"(407); correct {USER} and {PASSWORD}"
        )
    return (
        f"the proxy {proxy.url} asks for a user and a password (407); set {USER} and {PASSWORD} "
        "for the account that starts this participant"
    )


def _proxied(proxy: Proxy) -> dict[str, Any]:
    if not proxy.user:
        return {"proxy": proxy.url}
    login = aiohttp.encode_basic_auth(proxy.user, proxy.password, encoding="utf-8")
    return {"proxy": proxy.url, "proxy_headers": {"Proxy-Authorization": login}}


def _server(params: dict[str, Any]) -> str:
    return f"{params[DriverParams.HOST.value]}:{params[DriverParams.PORT.value]}"


def _own_file(params: dict[str, Any]) -> Path:
    """The own file of the kit whose certificates a connection uses."""
    root = params.get(DriverParams.CA_CERT.value)
    if not root:
        return Path()
    return Path(root).parent.parent / "local" / FILE_NAME
