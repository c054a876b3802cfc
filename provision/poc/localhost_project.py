"""The project file for one machine: the same participants and builders, the server on loopback.

The project's GPUs are left out, as they are not in this machine: NVFlare does not start a site
without those that its kit names. Sites may be given GPUs of this machine instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fedi2i.errors import ConfigError
from fedi2i.files import write_text
from fedi2i.typed_config import read_yaml
from provision.poc.ports import HOST


def write_localhost_project(
    source: Path,
    out: Path,
    port: int,
    storage: Path,
    capacity: Mapping[str, dict[str, Any]] | None = None,
) -> None:
    """Write a project file whose server is this machine and stores jobs in a given folder.

    Args:
        source: the project file to start from.
        out: the file to write.
        port: the server's port.
        storage: the server's folder for jobs.
        capacity: NVFlare's ``capacity`` of sites that have GPUs here.

    Raises:
        ConfigError: the source names no server.
    """
    project = read_yaml(source)
    servers = [p for p in project.get("participants", []) if p.get("type") == "server"]
    if len(servers) != 1:
        raise ConfigError(f"{source}: it names {len(servers)} servers; name one")
    for participant in project["participants"]:
        participant.pop("capacity", None)
        if participant.get("name") in (capacity or {}):
            participant["capacity"] = (capacity or {})[participant["name"]]
    servers[0] |= {"default_host": HOST, "fed_learn_port": port, "storage": str(storage)}
    write_text(out, OmegaConf.to_yaml(OmegaConf.create(project)))
