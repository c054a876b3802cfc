"""Peak memory of processes while they run."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from pathlib import Path

import psutil


def watch_memory(process: subprocess.Popen[bytes], peaks: dict[str, int]) -> None:
    """Note the largest resident memory in bytes of the server and of every site, until the end.

    Args:
        process: ``nvflare simulator``.
        peaks: filled: ``server`` or ``site <name>`` to bytes.
    """
    while process.poll() is None:
        try:
            for child in psutil.Process(process.pid).children(recursive=True):
                command = child.cmdline()
                site = command[command.index("--client") + 1] if "--client" in command else ""
                name = f"site {site}" if site else "server"
                peaks[name] = max(peaks.get(name, 0), child.memory_info().rss)
        except (psutil.NoSuchProcess, IndexError):
            pass
        time.sleep(0.5)


def largest_together(process: subprocess.Popen[bytes], seconds: float = 0.1) -> int:
    """The largest resident memory in bytes of a process and its children together, until its end.

    Pages that they share are counted for each of them, so that it is never too little.

    Args:
        process: just started.
        seconds: between two looks.
    """
    largest = 0
    while process.poll() is None:
        together = 0
        try:
            first = psutil.Process(process.pid)
            for one in (first, *first.children(recursive=True)):
                together += one.memory_info().rss
        except psutil.NoSuchProcess:
            pass  # one has just ended
        largest = max(largest, together)
        time.sleep(seconds)
    return largest


class PeakMemory:
    """How much more anonymous memory this process holds at most inside a ``with`` than before it.

    The kernel's own peak also counts pages of mapped files. It is therefore looked at every
    millisecond, and what comes and goes in between is not seen. Linux only.

    Attributes:
        growth: bytes; known after the end.
    """

    def __init__(self) -> None:
        self.growth = 0
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._before = 0

    def __enter__(self) -> PeakMemory:
        """Begin to watch."""
        self._before = anonymous_memory()
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        self._ended.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._ended.wait(0.001):
            self.growth = max(self.growth, anonymous_memory() - self._before)


def anonymous_memory() -> int:
    """Bytes that this process holds and that lie in no file."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0
