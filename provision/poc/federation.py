"""A running federation on this machine: kits, data mapping, processes, and its users."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf

from app_custom.participant.site_configuration import FILE_NAME, SiteConfig
from fedi2i.errors import ConfigError, DataError, UserError
from fedi2i.files import write_text
from fedi2i.typed_config import as_dict, nearest, read_yaml
from provision.poc.command_line import JobCommands
from provision.poc.localhost_project import write_localhost_project
from provision.poc.participants import Participants
from provision.poc.ports import check_port_free, is_listening
from provision.provisioning import PROJECT_FILE, provision

SERVER = "server"
_PROJECT = "localhost_project.yml"
"""By this file an earlier proof of concept is known, and may be replaced."""
_REGISTERED = "Successfully registered client"
_START_SECONDS = 180.0


class StartError(UserError):
    """A participant did not come up."""


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
    """

    out: Path
    datasets: dict[str, Path]
    sites: Sequence[str] = ("north", "east", "south", "west")
    port: int = 8102
    project_file: Path = field(default=PROJECT_FILE)
    torch_threads: int | None = None
    gpus: Mapping[str, Sequence[int]] = field(default_factory=dict)
    gpu_memory: float = 8.0


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


def prepare(config: PocConfig) -> Path:
    """Check everything, make the kits and map the data; returns the folder of kits.

    Raises:
        ConfigError, DataError: as in ``running_federation``.
    """
    check_port_free(config.port)
    _check_sites(config)
    for name, folder in config.datasets.items():
        for site in config.sites:
            if not (folder / site / "manifest.json").is_file():
                raise DataError(
                    f"{folder / site}: no manifest.json of data set '{name}'; for the demo run "
                    "'make data', else see docs/data.md"
                )
    out = config.out.resolve()
    if out.exists():
        if any(out.iterdir()) and not (out / _PROJECT).is_file():
            raise ConfigError(f"{out}: holds other files; choose another folder with --out")
        shutil.rmtree(out)
    write_localhost_project(
        config.project_file, out / _PROJECT, config.port, out / "storage", _capacity(config)
    )
    kits = provision(out / _PROJECT, out / "kits")
    for site in config.sites:
        map_data(kits / site, site, config)
    return kits


def _capacity(config: PocConfig) -> dict[str, dict[str, float]]:
    return {
        site: {"num_of_gpus": len(gpus), "mem_per_gpu_in_GiB": config.gpu_memory}
        for site, gpus in config.gpus.items()
    }


def _visible_gpus(config: PocConfig) -> dict[str, dict[str, str]]:
    """Each site's process sees its own GPUs only, so that two sites never give out the same one."""
    return {
        site: {"CUDA_VISIBLE_DEVICES": ",".join(str(gpu) for gpu in config.gpus.get(site, ()))}
        for site in config.sites
    }


def map_data(kit: Path, site: str, config: PocConfig) -> None:
    """Fill in a site's ``fedi2i.yaml``, as the site itself would."""
    mapping = SiteConfig(
        datasets={name: str(folder.resolve() / site) for name, folder in config.datasets.items()},
        shared_machine=True,
        torch_threads=config.torch_threads,
    )
    write_text(kit / "local" / FILE_NAME, OmegaConf.to_yaml(OmegaConf.create(as_dict(mapping))))


def wait_until_registered(participants: Participants, kits: Path, sites: Sequence[str]) -> None:
    """Wait until the server has accepted all sites.

    Raises:
        StartError: one ended or took too long; the sentence holds its last words.
    """
    for site in sites:
        _wait_for(partial(_is_registered, kits / site), participants, kits, [site, SERVER])


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


def _check_sites(config: PocConfig) -> None:
    """Refuse sites that the project does not know."""
    known = [p.get("name") for p in read_yaml(config.project_file).get("participants", [])]
    for site in (*config.sites, *config.gpus):
        if site not in known:
            raise ConfigError(
                f"{config.project_file}: no site '{site}'; {nearest(site, map(str, known))}"
            )


def last_words(kit: Path, characters: int = 300) -> str:
    """The end of what a participant printed, in one line."""
    path = kit / "console.txt"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return " ".join(text[-characters:].split())


def _environment() -> dict[str, str]:
    """Kits start ``python3`` from the search path: it must be this Python."""
    programs = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return {"PATH": os.pathsep.join(programs)}
