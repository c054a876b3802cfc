"""The participants' processes: started from their kits, stopped with all their children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psutil

_MARK = "FEDI2I_POC"
"""Environment variable that children inherit. NVFlare puts each job into a session of its own, so
neither the process group nor the tree of a dead parent would lead to them."""

_GRACE_SECONDS = 8.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Participants:
    """Processes of server and sites; leaving the block ends them and whatever they started.

    Args:
        kits: the folder with one kit per participant.
        environment: variables besides those of this process.
        own: further variables of single participants, by name.
    """

    def __init__(
        self,
        kits: Path,
        environment: dict[str, str] | None = None,
        own: Mapping[str, dict[str, str]] | None = None,
    ) -> None:
        self._kits = kits
        self._mark = uuid.uuid4().hex
        self._environment = {**os.environ, **(environment or {}), _MARK: self._mark}
        self._own = own or {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Participants:
        """Nothing runs yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything, also after Ctrl-C; a second one does not stop the stopping."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in _STOP_SIGNALS}
        try:
            self.stop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def environment(self) -> dict[str, str]:
        """For programs that shall end with the participants."""
        return self._environment

    def start(self, name: str) -> None:
        """Start one participant from its kit, as its own start script does, but once only."""
        kit = self._kits / name
        with (kit / "console.txt").open("ab") as output:
            self._running[name] = subprocess.Popen(
                ["bash", str(kit / "startup" / "sub_start.sh"), "--once"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**self._environment, **self._own.get(name, {})},
                start_new_session=True,
            )

    def ended(self) -> list[str]:
        """Names of participants whose process is gone."""
        return [name for name, process in self._running.items() if process.poll() is not None]

    def stop(self) -> None:
        """End all processes, gently first, and those that start while others end."""
        asked = self.processes()
        for process in asked:
            _signal(process, "terminate")
        psutil.wait_procs(asked, timeout=_GRACE_SECONDS)
        until = time.monotonic() + _GRACE_SECONDS
        while (left := self.processes()) and time.monotonic() < until:
            for process in left:
                _signal(process, "kill")
            psutil.wait_procs(left, timeout=1.0)
        for running in self._running.values():
            running.poll()

    def processes(self) -> list[psutil.Process]:
        """Every living process that carries this federation's mark."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                return False
            return bool(process.environ().get(_MARK) == self._mark)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False


def _signal(process: psutil.Process, how: str) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        getattr(process, how)()
