"""A TCP link to the server that can be cut and joined again, like a cable."""

from __future__ import annotations

import contextlib
import socket
import threading


class CuttableLink:
    """Forwards connections of a local port to another; while cut it drops and refuses all.

    Args:
        target: the port on this machine to forward to.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._cut = False
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        with self._lock:
            self._cut = True
            dropped, self._open = self._open, []
        for connection in dropped:
            _drop(connection)

    def join(self) -> None:
        """Let new connections through."""
        self._cut = False

    def close(self) -> None:
        """Stop for good."""
        self.cut()
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                if self._cut:
                    _drop(near)
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    _drop(source)
    _drop(sink)


def _drop(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
