"""An HTTP proxy as hospitals have them: it knows CONNECT alone, and may ask who one is."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any


class ConnectProxy:
    """Carries connections to one port of this machine, whatever host they ask for.

    Args:
        target: the port.
        login: ``user:password`` that it asks for, with Basic authentication.
        answer: what it says to CONNECT instead of letting it through, e.g. ``403 Forbidden``.
        asks_for: the kinds of login that it offers.
    """

    def __init__(
        self, target: int, login: str = "", answer: str = "", asks_for: tuple[str, ...] = ("Basic",)
    ) -> None:
        self.target = target
        self.login = login
        self.answer = answer
        self.asks_for = asks_for
        self.asked: list[str] = []
        self.tunnels = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> ConnectProxy:
        self._thread.start()
        self._listening = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = int(self._listening.sockets[0].getsockname()[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _end(self) -> None:
        self._listening.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await near.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            self.asked.append(head[0])
            refusal = self._refusal(head)
            if refusal:
                back.write(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n".encode())
                await back.drain()
            else:
                await self._tunnel(near, back)
        back.close()

    def _refusal(self, head: list[str]) -> str:
        if not head[0].startswith("CONNECT "):
            return "405 Method Not Allowed"
        wanted = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if self.login and f"Proxy-Authorization: {wanted}" not in head:
            kinds = "".join(f"\r\nProxy-Authenticate: {kind}" for kind in self.asks_for)
            return f"407 Proxy Authentication Required{kinds}"
        return self.answer

    async def _tunnel(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            far, on = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            back.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return
        self.tunnels += 1
        back.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_carry(near, on), _carry(far, back))
        finally:
            on.close()


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(1 << 16):
        sink.write(data)
        await sink.drain()
    sink.close()
