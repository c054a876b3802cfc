"""A startup kit on disk: what it is, and what its files say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedi2i.errors import ConfigError


@dataclass(frozen=True)
class Kit:
    """A kit on disk.

    Attributes:
        folder: where it lies.
        kind: ``server``, ``client`` or ``admin``.
        config: its ``startup/fed_<kind>.json``.
    """

    folder: Path
    kind: str
    config: dict[str, Any]

    @property
    def certificate(self) -> Path:
        """The participant's own certificate."""
        return self.folder / "startup" / ("server.crt" if self.kind == "server" else "client.crt")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server."""
        if self.kind == "admin":
            return self.config["admin"]["host"], int(self.config["admin"]["port"])
        host, _, port = self.config["servers"][0]["service"]["target"].rpartition(":")
        return host, int(port)

    @property
    def resources(self) -> dict[str, Any]:
        """Its ``local/resources.json``.

        Raises:
            ConfigError: the file is missing or damaged.
        """
        return self.local("resources.json")

    def local(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder ``local``.

        Raises:
            ConfigError: the file is missing or damaged.
        """
        path = self.folder / "local" / name
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: missing or damaged; unpack the kit again") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: damaged; unpack the kit again")
        return content


def open_kit(folder: Path) -> Kit:
    """Read what a kit is.

    Raises:
        ConfigError: the folder is no kit, or may not be read.
    """
    for kind in ("server", "client", "admin"):
        path = folder / "startup" / f"fed_{kind}.json"
        try:
            if path.is_file():
                return Kit(folder, kind, json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ConfigError(f"{path}: damaged; unpack the kit again") from error
        except PermissionError as error:
            raise ConfigError(unreadable(path)) from error
    raise ConfigError(f"{folder}: no startup kit; give the folder that holds 'startup' and 'local'")


def unreadable(path: Path | str) -> str:
    """The sentence about a file that this account may not read."""
    return f"{path}: this account may not read it; run as the account that the kit belongs to"
