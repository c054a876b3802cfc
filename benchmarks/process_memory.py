"""Peak memory of processes while they run."""

from __future__ import annotations

import subprocess
import time

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
