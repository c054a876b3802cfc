"""The way to the server through an HTTP proxy, with NVFlare's own drivers, TLS and real kits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import made_up_server
from connect_proxy import ConnectProxy
from nvflare.apis.workspace import Workspace
from nvflare.fuel.f3.communicator import Communicator, driver_mgr
from nvflare.fuel.f3.drivers.aio_http_driver import AioHttpDriver
from nvflare.fuel.f3.drivers.driver_params import DriverParams
from nvflare.fuel.f3.endpoint import Endpoint
from nvflare.fuel.f3.message import Message, MessageReceiver
from nvflare.fuel.f3.sfm.conn_manager import Mode
from nvflare.fuel.hci.client.config import secure_load_admin_config
from poc_processes import LEAD, free_port, wait_for
from provisioned_project import Provisioned

from app_custom.participant.proxy import PASSWORD, USER
from app_custom.participant.proxy_driver import ProxyHttpDriver, ServerRoute
from provision.__main__ import main
from provision.kit_check import check_kit

APPLICATION = 1


class Received(MessageReceiver):  # type: ignore[misc]
    """Keeps what arrives, and whose certificate the connection had."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.peers: list[str] = []

    def process_message(
        self, endpoint: Endpoint, connection: object, app_id: int, message: Message
    ) -> None:
        self.payloads.append(bytes(message.payload))
        self.peers.append(connection.get_conn_properties()[DriverParams.PEER_CN.value])  # type: ignore[attr-defined]


def credentials(kit: Path) -> dict[str, str]:
    startup, kind = kit / "startup", "server" if kit.name == "server" else "client"
    return {
        DriverParams.CA_CERT.value: str(startup / "rootCA.pem"),
        f"{kind}_cert": str(startup / f"{kind}.crt"),
        f"{kind}_key": str(startup / f"{kind}.key"),
    }


@pytest.fixture
def route() -> Iterator[None]:
    """This process connects as one that has read a kit's ``resources.json``."""
    before = dict(driver_mgr.drivers)
    ServerRoute()
    yield
    driver_mgr.drivers.clear()
    driver_mgr.drivers.update(before)


@pytest.fixture(scope="module")
def server(provisioned: Provisioned) -> Iterator[tuple[int, Received]]:
    """What listens where a server does, with its certificate; its port and what it receives."""
    port, received = free_port(), Received()
    kit = provisioned.kits / "server"
    listening = Communicator(Endpoint("server", conn_props=credentials(kit)))
    listening.register_message_receiver(APPLICATION, received)
    listening.add_connector(f"http://localhost:{port}", Mode.PASSIVE, secure=True)
    listening.start()
    yield port, received
    listening.stop()


def tell_proxy(kit: Path, url: str) -> None:
    (kit / "local" / "fedi2i.yaml").write_text(f"proxy: {url}\n")


def send(kit: Path, host: str, payload: bytes, received: Received) -> None:
    """Connect to the server as a participant of NVFlare does, and send a message."""
    communicator = Communicator(Endpoint("north", conn_props=credentials(kit)))
    communicator.add_connector(f"http://{host}", Mode.ACTIVE, secure=True)
    communicator.start()
    try:
        wait_for(lambda: communicator.find_endpoint("server"), 20)
        communicator.send(communicator.find_endpoint("server"), APPLICATION, Message({}, payload))
        wait_for(lambda: payload in received.payloads, 20)
    finally:
        communicator.stop()


@pytest.mark.usefixtures("route")
def test_a_message_goes_through_the_proxy_with_tls_from_end_to_end(
    copied_kit: Path, server: tuple[int, Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, received = server
    monkeypatch.setenv(USER, "north")
    monkeypatch.setenv(PASSWORD, "gehe:im ü")
    with ConnectProxy(port, login="north:gehe:im ü") as proxy:
        tell_proxy(copied_kit, proxy.url)
        # No name server of this machine knows the host: the proxy is the one that looks it up.
        send(copied_kit, "fedi2i.invalid:8002", b"x" * 3_000_000, received)
        assert proxy.asked == ["CONNECT fedi2i.invalid:8002 HTTP/1.1"] and proxy.tunnels == 1
    assert received.peers[-1] == "north"  # the server saw the site's certificate, not the proxy's


@pytest.mark.usefixtures("route")
def test_without_a_proxy_the_connection_is_nvflare_s_own(
    copied_kit: Path, server: tuple[int, Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, received = server
    through: list[object] = []
    monkeypatch.setattr(AioHttpDriver, "connect", _noted(AioHttpDriver.connect, through))
    send(copied_kit, f"localhost:{port}", b"direct", received)
    assert len(through) == 1


def _noted(function, calls):  # type: ignore[no-untyped-def]
    def noting(*arguments):  # type: ignore[no-untyped-def]
        calls.append(arguments)
        return function(*arguments)

    return noting


def test_every_process_that_connects_builds_the_route_from_its_kit(
    provisioned: Provisioned, route: None
) -> None:
    """A console's and ``nvflare job``'s loader here; a site's and its jobs' in the federation."""
    driver_mgr.drivers["http"] = AioHttpDriver
    secure_load_admin_config(Workspace(root_dir=str(provisioned.kits / LEAD)))
    assert driver_mgr.find_driver_class("http://server:8002") is ProxyHttpDriver
    for name in ("north", "server"):
        text = (provisioned.kits / name / "local" / "resources.json").read_text()
        paths = [component["path"] for component in json.loads(text)["components"]]
        assert ("app_custom.participant.proxy_driver.ServerRoute" in paths) is (name == "north")


# What the check says. A person's kit has no data to map, so that nothing else is to be fixed.


@pytest.fixture
def kit(provisioned: Provisioned, tmp_path: Path) -> Path:
    return Path(shutil.copytree(provisioned.kits / LEAD, tmp_path / LEAD))


def only_fault(kit: Path) -> str:
    _, (fault,) = check_kit(kit)
    return fault


def test_the_check_goes_through_the_proxy_to_the_server(
    kit: Path, server: tuple[int, Received], capsys: pytest.CaptureFixture[str]
) -> None:
    with ConnectProxy(server[0]) as proxy:
        tell_proxy(kit, proxy.url)
        assert main(["check", str(kit)]) == 0
        assert proxy.asked == ["CONNECT localhost:8002 HTTP/1.1"]
    said = f"server: localhost:8002 answers through {proxy.url}, with TLS from end to end"
    assert said in capsys.readouterr().out


def test_a_proxy_that_is_not_there_is_named(kit: Path) -> None:
    tell_proxy(kit, f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in only_fault(kit)
    tell_proxy(kit, "http://no-such-proxy.invalid:3128")
    assert "the name of the proxy http://no-such-proxy.invalid:3128 does not resolve" in only_fault(
        kit
    )


def test_a_proxy_that_asks_who_one_is_says_what_it_lacks(
    kit: Path, server: tuple[int, Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ConnectProxy(server[0], login="north:right") as proxy:
        tell_proxy(kit, proxy.url)
        fault = only_fault(kit)
        assert "asks for a user and a password (407)" in fault and USER in fault
        monkeypatch.setenv(USER, "north")
        assert f"set both {USER} and {PASSWORD} or neither" in check_kit(kit)[1][0]
        monkeypatch.setenv(PASSWORD, "wrong")
        fault = only_fault(kit)
        assert "does not take the user 'north' with this password (407)" in fault
        assert "wrong" not in fault
        proxy.asks_for = ("Negotiate", "NTLM")
        assert "a login of the kind Negotiate, NTLM (407)" in only_fault(kit)
        monkeypatch.setenv(PASSWORD, "right")
        assert check_kit(kit)[1] == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("403 Forbidden", "forbids the way to localhost:8002 (403); ask your network's"),
        ("503 Service Unavailable", "it does not resolve the name 'localhost', or the server is"),
        ("404 Not Found", "refuses CONNECT to localhost:8002 (404 Not Found)"),
        ("200 OK", "broke off"),  # and then no TLS
    ],
)
def test_a_proxy_that_lets_nobody_through_is_told_apart(
    kit: Path, server: tuple[int, Received], answer: str, said: str
) -> None:
    with ConnectProxy(server[0], answer=answer) as proxy:
        tell_proxy(kit, proxy.url)
        fault = only_fault(kit)
    assert said in fault and proxy.url in fault


def test_a_server_that_is_down_is_not_blamed_on_the_proxy(kit: Path) -> None:
    with ConnectProxy(free_port()) as proxy:
        tell_proxy(kit, proxy.url)
        assert "or the server is down" in only_fault(kit)


def test_a_proxy_that_opens_tls_is_noticed(
    kit: Path, provisioned: Provisioned, tmp_path: Path
) -> None:
    """What answers has the server's name, from an authority that the proxy made up."""
    certificate, key = made_up_server(tmp_path)
    port, files = free_port(), credentials(provisioned.kits / "server")
    files |= {"server_cert": str(certificate), "server_key": str(key)}
    inspecting = Communicator(Endpoint("server", conn_props=files))
    inspecting.add_connector(f"http://localhost:{port}", Mode.PASSIVE, secure=True)
    inspecting.start()
    try:
        with ConnectProxy(port) as proxy:
            tell_proxy(kit, proxy.url)
            assert "the proxy opens TLS to read it (TLS inspection)" in only_fault(kit)
    finally:
        inspecting.stop()


def test_a_kit_whose_resources_do_not_load_the_route_is_told_so(kit: Path) -> None:
    """As kits of earlier releases are: their proxy would be passed over in silence."""
    tell_proxy(kit, "http://127.0.0.1:3128")
    path = kit / "local" / "resources.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "handlers": []}))
    assert "so 'proxy' in fedi2i.yaml would not count" in check_kit(kit)[1][0]


@pytest.mark.parametrize("url", ["http://me:secret@proxy:3128", "proxy:3128", "https://proxy:443"])
def test_an_address_that_is_none_or_holds_a_password_keeps_a_site_from_starting(
    copied_kit: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_proxy(copied_kit, url)
    assert main(["check", str(copied_kit), "--before-start"]) == 2
    said = capsys.readouterr().err
    assert "write http://<host>:<port>" in said and "secret" not in said
    if "@" in url:
        assert f"put them into the environment variables {USER} and {PASSWORD}" in said


@pytest.mark.usefixtures("route")
def test_a_running_site_says_in_its_log_what_stands_in_the_way(
    copied_kit: Path, server: tuple[int, Received], caplog: pytest.LogCaptureFixture
) -> None:
    with ConnectProxy(server[0], answer="403 Forbidden") as proxy:
        tell_proxy(copied_kit, proxy.url)
        communicator = Communicator(Endpoint("north", conn_props=credentials(copied_kit)))
        communicator.add_connector("http://localhost:8002", Mode.ACTIVE, secure=True)
        communicator.start()
        wait_for(lambda: len(proxy.asked) > 1, 20)
        communicator.stop()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    (said,) = [warning for warning in warnings if "(403)" in warning]  # once, at the first failure
    assert said.startswith(f"the proxy {proxy.url} forbids the way to localhost:8002")
