"""A host with an address of its own on this machine, and the cable between the two.

Linux has network namespaces and pairs of virtual network cards. When a cable is cut nobody is told,
and what is on its way is lost; ``CuttableLink`` needs no rights, but hangs up as a program does.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path


class NoCableError(Exception):
    """This machine or account cannot make hosts with addresses of their own; the text says why."""


class Cable:
    """A host of its own, joined to this machine.

    Args:
        name: of the host, up to eight letters.
        number: of its network, 0 to 63; two hosts at once have different ones.

    Raises:
        NoCableError: with the reason.
    """

    def __init__(self, name: str, number: int) -> None:
        self._host = f"fedi2i-{name}"
        self._near, far = f"fi-{name}", f"fo-{name}"
        self.here = f"10.203.{number}.1"
        self.address = f"10.203.{number}.2"
        if shutil.which("ip") is None:
            raise NoCableError("'ip' of iproute2 is not installed")
        self.close()  # of a test that was killed
        try:
            _ip("netns", "add", self._host)
            _ip("link", "add", self._near, "type", "veth", "peer", far, "netns", self._host)
            _ip("address", "add", f"{self.here}/30", "dev", self._near)
            _ip("link", "set", self._near, "up")
            _ip("-n", self._host, "address", "add", f"{self.address}/30", "dev", far)
            _ip("-n", self._host, "link", "set", far, "up")
            _ip("-n", self._host, "link", "set", "lo", "up")
        except NoCableError:
            self.close()
            raise

    def cut(self) -> None:
        """Pull the plug: nothing arrives, and nobody is told."""
        _ip("link", "set", self._near, "down")

    def join(self) -> None:
        """Put it in again."""
        _ip("link", "set", self._near, "up")

    def close(self) -> None:
        """Take the host away."""
        with contextlib.suppress(NoCableError):
            _ip("link", "delete", self._near)
        with contextlib.suppress(NoCableError):
            _ip("netns", "delete", self._host)

    def python(self, folder: Path) -> Path:
        """A folder whose ``python3`` is this Python, run on the host; it goes before ``PATH``."""
        folder.mkdir()
        program = folder / "python3"
        program.write_text(f'#!/bin/sh\nexec ip netns exec {self._host} {sys.executable} "$@"\n')
        program.chmod(0o755)
        return folder


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoCableError(f"'ip {' '.join(arguments)}' fails: {done.stderr.strip()}")
