"""Peak memory of the simulator's processes, by what they are."""

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
