"""Kits after the first ones: a new site or person, a renewed certificate; no other is touched.

NVFlare makes all kits anew at every run, from the keys it keeps in ``state``. Only those asked for
are kept, so that nobody hands out a second copy of another's.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from omegaconf import OmegaConf

from fedi2i.errors import ConfigError
from fedi2i.files import write_text
from fedi2i.site_names import check_site_name
from fedi2i.typed_config import choose, nearest, read_yaml
from provision.encryption import refuse_kits_without_keys
from provision.permissions import PERMISSIONS
from provision.provisioning import kit_folders, provision

_PERSON_NAME = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")
_ORG_NAME = re.compile(r"[A-Za-z0-9_]+")


def add_site(
    project_file: Path,
    workspace: Path,
    site: str,
    org: str,
    gpus: int = 0,
    gpu_memory: float = 0.0,
) -> Path:
    """Make a kit for one more site; returns the kit.

    Args:
        project_file: the project as it was provisioned.
        workspace: the folder given to ``nvflare provision -w``.
        site: the new site's name.
        org: its organisation.
        gpus: number of its GPUs.
        gpu_memory: GiB per GPU.

    Raises:
        ConfigError: a name that cannot be, or is taken, or no kits so far.
    """
    check_site_name(site, "new site")
    if not _ORG_NAME.fullmatch(org):
        raise ConfigError(
            f"site '{site}': organisation '{org}' cannot be used as a name; use letters, digits "
            "and '_'"
        )
    _refuse_known(project_file, workspace, site)
    if (gpus > 0) != (gpu_memory > 0):
        raise ConfigError(
            f"'{site}': give the number of its GPUs and the memory of each, or neither, e.g. "
            "--gpus 1 --gpu-memory 24"
        )
    participant: dict[str, object] = {"name": site, "type": "client", "org": org}
    if gpus:
        participant["capacity"] = {"num_of_gpus": gpus, "mem_per_gpu_in_GiB": gpu_memory}
    return _added(project_file, workspace, "--add_client", participant)


def add_person(project_file: Path, workspace: Path, name: str, org: str, role: str) -> Path:
    """Make a kit for the console for one more person; returns the kit.

    Args:
        project_file: the project as it was provisioned.
        workspace: the folder given to ``nvflare provision -w``.
        name: the person's e-mail address.
        org: their organisation; what they may do at a site depends on it.
        role: one of ``provision.permissions``.

    Raises:
        ConfigError: a name, organisation or role that cannot be, or is taken, or no kits so far.
    """
    if not _PERSON_NAME.fullmatch(name) or not _ORG_NAME.fullmatch(org):
        raise ConfigError(
            f"'{name}' of organisation '{org}': give an e-mail address, and an organisation in "
            "letters, digits and '_'"
        )
    choose(role, PERMISSIONS["permissions"], "--role")
    _refuse_known(project_file, workspace, name)
    participant = {"name": name, "type": "admin", "org": org, "role": role}
    return _added(project_file, workspace, "--add_user", participant)


def renew(project_file: Path, workspace: Path, name: str) -> Path:
    """Make a kit with a new key and certificate for a participant; returns the kit.

    A participant that was added later must stand in the project file by now.

    Raises:
        ConfigError: the project file names no such participant.
    """
    known = [str(p["name"]) for p in read_yaml(project_file).get("participants", [])]
    if name not in known:
        raise ConfigError(f"{project_file}: no participant '{name}'; {nearest(name, known)}")
    _known(project_file, workspace)
    state = workspace / str(read_yaml(project_file)["name"]) / "state" / "cert.json"
    before = state.read_text(encoding="utf-8")
    certificates = json.loads(before)
    certificates.pop(name, None)
    write_text(state, json.dumps(certificates))
    state.chmod(0o600)
    try:
        return _only(provision(project_file, workspace), name)
    except BaseException:
        write_text(state, before)
        state.chmod(0o600)
        raise


def _added(
    project_file: Path, workspace: Path, option: str, participant: Mapping[str, object]
) -> Path:
    name = str(participant["name"])
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "participant.yml"
        file.write_text(OmegaConf.to_yaml(OmegaConf.create(dict(participant))), encoding="utf-8")
        made = provision(project_file, workspace, option, str(file.resolve()))
    return _only(made, name)


def _refuse_known(project_file: Path, workspace: Path, name: str) -> None:
    if name in _known(project_file, workspace):
        raise ConfigError(
            f"'{name}' has a kit already; choose another name, or renew its certificate with "
            f"'fedi2i provision renew {name}'"
        )


def _known(project_file: Path, workspace: Path) -> set[str]:
    """Names of everybody who has a kit.

    Raises:
        ConfigError: nobody has one, or a new one would have a key that the others lack.
    """
    names = {kit.name for kits in kit_folders(project_file, workspace) for kit in kits.iterdir()}
    if not names:
        raise ConfigError(
            f"{workspace}: no kits of this project; make them first: 'nvflare provision -p "
            f"{project_file} -w {workspace}'"
        )
    refuse_kits_without_keys(project_file, workspace)
    return names


def _only(kits: Path, name: str) -> Path:
    for other in kits.iterdir():
        if other.name != name:
            shutil.rmtree(other)
    return kits / name
