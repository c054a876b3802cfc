"""A running federation on this machine: server and sites as processes, and its users."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fedi2i.errors import UserError
from provision.poc.command_line import JobCommands
from provision.poc.kits import HOST, PocConfig, prepare
from provision.poc.participants import Participants

SERVER = "server"
_REGISTERED = "Successfully registered client"
_START_SECONDS = 180.0


class StartError(UserError):
    """A participant did not come up."""


@dataclass(frozen=True)
class Federation:
    """A federation whose participants run.

    Attributes:
        kits: folder with one kit per participant.
        participants: their processes.
    """

    kits: Path
    participants: Participants

    def user(self, name: str) -> JobCommands:
        """A user's command line, e.g. of ``lead@north.example.org``."""
        return JobCommands(self.kits / name, self.participants.environment)


@contextmanager
def running_federation(config: PocConfig) -> Iterator[Federation]:
    """Make kits, start server and sites, wait until all are connected; stop all at the end.

    Raises:
        ConfigError: a port in use, or a folder that is something else; nothing was started.
        DataError: a site's data is missing; nothing was started.
        StartError: a participant did not come up, with its last words.
    """
    kits = prepare(config)
    with Participants(kits, _environment(), _visible_gpus(config)) as participants:
        participants.start(SERVER)
        _wait_for(lambda: is_listening(config.port), participants, kits, [SERVER])
        for site in config.sites:
            participants.start(site)
        wait_until_registered(participants, kits, config.sites)
        yield Federation(kits, participants)


def is_listening(port: int) -> bool:
    """Whether something on this machine accepts connections on the port."""
    with socket.socket() as asked:
        asked.settimeout(1.0)
        return asked.connect_ex((HOST, port)) == 0


def wait_until_registered(participants: Participants, kits: Path, sites: Sequence[str]) -> None:
    """Wait until the server has accepted all sites.

    Raises:
        StartError: one ended or took too long; the sentence holds its last words.
    """
    for site in sites:
        _wait_for(partial(_is_registered, kits / site), participants, kits, [site, SERVER])


def last_words(kit: Path, characters: int = 300) -> str:
    """The end of what a participant printed, in one line."""
    path = kit / "console.txt"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return " ".join(text[-characters:].split())


def _wait_for(
    condition: Callable[[], bool], participants: Participants, kits: Path, names: Sequence[str]
) -> None:
    """Wait for a condition; give up when one of the named participants ends."""
    until = time.monotonic() + _START_SECONDS
    while not condition():
        time.sleep(0.3)
        gone = [name for name in names if name in participants.ended()]
        if gone or time.monotonic() > until:
            name = (gone or names)[0]
            raise StartError(f"'{name}' did not start; it says: {last_words(kits / name)}")


def _is_registered(kit: Path) -> bool:
    return _REGISTERED in last_words(kit, 10**6)


def _visible_gpus(config: PocConfig) -> dict[str, dict[str, str]]:
    """Each site's process sees its own GPUs only, so that two sites never give out the same one."""
    return {
        site: {"CUDA_VISIBLE_DEVICES": ",".join(str(gpu) for gpu in config.gpus.get(site, ()))}
        for site in config.sites
    }


def _environment() -> dict[str, str]:
    """Kits start ``python3`` from the search path: it must be this Python."""
    programs = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return {"PATH": os.pathsep.join(programs)}
