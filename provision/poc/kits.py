"""The kits of a federation on one machine: the same project, the server on loopback, data mapped.

The project's GPUs are left out, as they are not in this machine: NVFlare does not start a site
without those that its kit names. Sites may be given GPUs of this machine instead.
"""

from __future__ import annotations

import errno
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from app_custom.gates.job_limits import SIMULATION
from app_custom.participant.site_configuration import FILE_NAME, SiteConfig
from fedi2i.errors import ConfigError, DataError
from fedi2i.files import write_text
from fedi2i.typed_config import as_dict, nearest, read_yaml
from provision.encryption import BUILDER
from provision.provisioning import PROJECT_FILE, provision

HOST = "localhost"
_PROJECT = "localhost_project.yml"
"""By this file an earlier proof of concept is known, and may be replaced."""


@dataclass(frozen=True)
class PocConfig:
    """What a proof of concept is made of.

    Attributes:
        out: its folder; an earlier one is replaced.
        datasets: data set name to the folder that holds one folder per site.
        sites: the sites to start.
        port: the server's port.
        project_file: the project.
        torch_threads: threads per site; by default cores / sites.
        gpus: GPUs of this machine by site, as their numbers in ``nvidia-smi``.
        gpu_memory: GiB that a job may count on at each of them.
        heartbeat_timeout: seconds of silence after which the server takes a site for lost; by
            default as in the project's own kits.
        encryption: whether the kits get keys for encrypted averaging.
    """

    out: Path
    datasets: dict[str, Path]
    sites: Sequence[str] = ("north", "east", "south", "west")
    port: int = 8102
    project_file: Path = field(default=PROJECT_FILE)
    torch_threads: int | None = None
    gpus: Mapping[str, Sequence[int]] = field(default_factory=dict)
    gpu_memory: float = 8.0
    heartbeat_timeout: int | None = None
    encryption: bool = False


def prepare(config: PocConfig) -> Path:
    """Check everything, make the kits and map the data; returns the folder of kits.

    Raises:
        ConfigError: a port in use, a site that the project does not name, or a folder that is
            something else.
        DataError: a site's data is missing.
    """
    check_port_free(config.port)
    _check_sites(config)
    _check_data(config)
    out = config.out.resolve()
    if out.exists():
        if any(out.iterdir()) and not (out / _PROJECT).is_file():
            raise ConfigError(f"{out}: holds other files; choose another folder with --out")
        shutil.rmtree(out)
    write_localhost_project(config, out / _PROJECT)
    kits = provision(out / _PROJECT, out / "kits")
    for site in config.sites:
        map_data(kits / site, site, config)
    return kits


def check_port_free(port: int) -> None:
    """Refuse a port that cannot be listened on.

    Raises:
        ConfigError: it is in use, or no port at all.
    """
    if not 1024 <= port <= 65535:
        raise ConfigError(f"port {port}: choose one from 1024 to 65535, e.g. --port 8102")
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        if _in_use(family, address, port):
            raise ConfigError(
                f"port {port} is in use on this machine; stop what listens there or choose "
                f"another, e.g. --port {port + 100 if port < 65000 else port - 100}"
            )


def write_localhost_project(config: PocConfig, out: Path) -> None:
    """Write a project file whose server is this machine and stores jobs beside the file.

    Args:
        config: its project file, port, GPUs, heartbeat timeout and encryption.
        out: the file to write.

    Raises:
        ConfigError: the project names no server, or several.
    """
    project = read_yaml(config.project_file)
    participants = project.get("participants", [])
    servers = [p for p in participants if p.get("type") == "server"]
    if len(servers) != 1:
        raise ConfigError(f"{config.project_file}: it names {len(servers)} servers; name one")
    storage = str(out.with_name("storage"))
    servers[0] |= {"default_host": HOST, "fed_learn_port": config.port, "storage": storage}
    for participant in participants:
        participant.pop("capacity", None)
        participant |= _capacity(config, participant.get("name"))
    changes: dict[str, Any] = {}
    if config.heartbeat_timeout is not None:
        changes["heartbeat_timeout"] = config.heartbeat_timeout
    if config.encryption:
        changes["encryption"] = True
    if changes:
        (builder,) = (b for b in project["builders"] if b["path"] == BUILDER)
        builder["args"] |= changes
    write_text(out, OmegaConf.to_yaml(OmegaConf.create(project)))


def map_data(kit: Path, site: str, config: PocConfig) -> None:
    """Fill in a site's ``fedi2i.yaml`` as the site itself would, but with a simulation's limits."""
    mapping = SiteConfig(
        datasets={name: str(folder.resolve() / site) for name, folder in config.datasets.items()},
        shared_machine=True,
        torch_threads=config.torch_threads,
        limits=SIMULATION,
    )
    write_text(kit / "local" / FILE_NAME, OmegaConf.to_yaml(OmegaConf.create(as_dict(mapping))))


def _check_sites(config: PocConfig) -> None:
    """Refuse sites that the project does not know."""
    known = [p.get("name") for p in read_yaml(config.project_file).get("participants", [])]
    for site in (*config.sites, *config.gpus):
        if site not in known:
            raise ConfigError(
                f"{config.project_file}: no site '{site}'; {nearest(site, map(str, known))}"
            )


def _check_data(config: PocConfig) -> None:
    for name, folder in config.datasets.items():
        for site in config.sites:
            if not (folder / site / "manifest.json").is_file():
                raise DataError(
                    f"{folder / site}: no manifest.json of data set '{name}'; for the demo run "
                    "'make data', else see docs/data.md"
                )


def _capacity(config: PocConfig, site: str | None) -> dict[str, Any]:
    """NVFlare's ``capacity`` of a site that has GPUs here."""
    gpus = config.gpus.get(site or "")
    if not gpus:
        return {}
    return {"capacity": {"num_of_gpus": len(gpus), "mem_per_gpu_in_GiB": config.gpu_memory}}


def _in_use(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        with socket.socket(family) as asked:
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            asked.bind((address, port))
    except PermissionError:
        return True
    except OSError as error:
        # A machine without IPv6 cannot use the port there either.
        return error.errno == errno.EADDRINUSE
    return False
