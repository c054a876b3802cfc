"""NVFlare's own cells over TLS with the certificates of provisioned kits, all in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nvflare.fuel.f3.cellnet.cell import Cell
from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey, ReturnCode
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.cellnet.identity import ADMIN_LISTENER_KEY
from nvflare.fuel.f3.cellnet.utils import make_reply
from nvflare.fuel.f3.drivers.driver_params import DriverParams
from nvflare.fuel.f3.message import Message
from nvflare.private.defs import new_cell_message
from poc_processes import free_port

from app_custom.participant.allowed_messages import MessageTable, read_table
from app_custom.participant.message_guard import MessageFilter

CHANNELS = (
    CellChannel.CLIENT_MAIN,
    CellChannel.AUX_COMMUNICATION,
    CellChannel.SERVER_COMMAND,
    CellChannel.SERVER_PARENT_LISTENER,
    CellChannel.EDGE_REQUEST,
    CellChannel.HCI,
)


class CertifiedCells:
    """The server's cell with the guard's filter, and cells of whoever joins.

    Args:
        kits: folder with one kit per participant.
        jobs: the sites of each job by its id.
        swarms: ids of jobs that are swarms.

    Attributes:
        arrived: (receiving cell, channel, topic, origin) of every message that was handled.
    """

    def __init__(self, kits: Path, jobs: Mapping[str, set[str]], swarms: set[str]) -> None:
        self._kits = kits
        self._url = f"http://localhost:{free_port()}"
        self._cells: dict[str, Cell] = {}
        self.arrived: list[tuple[str, str, str, str]] = []
        server = self.join(FQCN.ROOT_SERVER, FQCN.ROOT_SERVER)
        table = MessageTable(read_table(), jobs.get, swarms.__contains__)
        MessageFilter(table, server, logging.getLogger("guard")).install()
        for job in jobs:
            self.join(f"server.{job}", FQCN.ROOT_SERVER, server.get_internal_listener_url())

    def join(self, name: str, who: str, parent_url: str | None = None) -> Cell:
        """Start a cell with a participant's certificate, once."""
        if name not in self._cells:
            url = self._url
            if name == FQCN.ROOT_SERVER:  # consoles come in where sites do
                url += f"?{ADMIN_LISTENER_KEY}=true"
            cell = Cell(
                fqcn=name,
                root_url=None if parent_url else url,
                secure=True,
                credentials=self._credentials(who),
                create_internal_listener=name == FQCN.ROOT_SERVER,
                parent_url=parent_url,
                auth_identity_map={FQCN.ROOT_SERVER: FQCN.ROOT_SERVER},
            )
            # Cells of one process would otherwise hand messages to each other directly.
            cell.core_cell.ALL_CELLS = {}
            for channel in CHANNELS:
                cell.register_request_cb(channel=channel, topic="*", cb=self._handler(name))
            cell.start()
            self._cells[name] = cell
            if len(self._cells) > 1:
                _wait(lambda: cell.core_cell.agents)  # connected to the server
        return self._cells[name]

    def ask(self, asking: Cell, channel: str, topic: str, target: str, content: Any) -> Any:
        """Send a request and return the answer's content."""
        reply = asking.send_request(
            channel=channel,
            topic=topic,
            target=target,
            request=new_cell_message({}, content),
            timeout=10.0,
        )
        assert reply.get_header(MessageHeaderKey.RETURN_CODE) == ReturnCode.OK, reply.headers
        return reply.payload

    def send(self, sending: Cell, channel: str, topic: str, target: str, **headers: str) -> None:
        """Send a message and wait for nothing."""
        sending.fire_and_forget(
            channel=channel,
            topic=topic,
            targets=target,
            message=new_cell_message(headers, {"a": 1}),
        )

    def stop(self) -> None:
        """Stop the cells, the server's last."""
        for cell in reversed(self._cells.values()):
            cell.stop()

    def _handler(self, name: str) -> Any:
        def handle(request: Message) -> Message:
            head = [MessageHeaderKey.CHANNEL, MessageHeaderKey.TOPIC, MessageHeaderKey.ORIGIN]
            self.arrived.append((name, *(str(request.get_header(key)) for key in head)))
            return make_reply(ReturnCode.OK, body=request.payload)

        return handle

    def _credentials(self, who: str) -> dict[str, str]:
        startup = self._kits / who / "startup"
        is_server = who == FQCN.ROOT_SERVER
        certificate = DriverParams.SERVER_CERT if is_server else DriverParams.CLIENT_CERT
        key = DriverParams.SERVER_KEY if is_server else DriverParams.CLIENT_KEY
        file = "server" if is_server else "client"
        return {
            DriverParams.CA_CERT.value: str(startup / "rootCA.pem"),
            certificate.value: str(startup / f"{file}.crt"),
            key.value: str(startup / f"{file}.key"),
        }


@contextmanager
def speaking_as(cell: Cell, **headers: str) -> Iterator[Cell]:
    """Have a cell send headers that are not true."""

    def lie(message: Message) -> None:
        message.add_headers(headers)

    cell.core_cell.add_outgoing_request_filter("*", "*", lie)
    yield cell
    cell.core_cell.out_req_filter_reg.reg.clear()


def _wait(condition: Any) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
