"""Keys for encrypted averaging: made once for a project, and written into every kit.

NVFlare's ``HEBuilder`` makes a new key at every run, so that a site that joined later could not
read what the others encrypt. Here the first key is kept in the project's ``state``, beside the
authority's private keys, and every later kit gets it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvflare.lighter.constants import ProvFileName
from nvflare.lighter.ctx import ProvisionContext
from nvflare.lighter.entity import Project

from app_custom.privacy.encryption.keys import SERVER_KEYS, SITE_KEYS
from fedi2i.errors import ConfigError, DataError
from fedi2i.files import PRIVATE_FILE, replacing
from fedi2i.typed_config import read_yaml
from lightning_modules.privacy.encrypted_model import decrypted_model, is_encrypted
from lightning_modules.privacy.encrypted_sums import (
    DEGREE,
    MODULUS_BITS,
    SCALE_BITS,
    EncryptionError,
    open_keys,
    tenseal,
)
from provision.provisioning import kit_folders, provision
from provision.startup_folder import startup_is_genuine

BUILDER = "provision.kit_builder.KitBuilder"
_KEPT = "encryption.tenseal"
"""In the project's ``state``: with the secret key."""
_BEFORE = f"{_KEPT}.before"
"""Beside it while kits with a new key are made: the key that the kits so far hold."""


@dataclass(frozen=True)
class KeyFiles:
    """What the files of one federation's keys hold.

    Attributes:
        site_file: every site's, with the secret key.
        server_file: the server's, which neither encrypts nor decrypts.
    """

    site_file: bytes
    server_file: bytes


def write_keys(project: Project, ctx: ProvisionContext) -> None:
    """Write the project's keys into the ``startup`` folders of server and sites.

    Raises:
        ConfigError: TenSEAL is not installed.
        EncryptionError: the kept key is damaged.
    """
    builder = _builder(MODULUS_BITS, SCALE_BITS)
    kept = Path(ctx.get_state_dir()) / _KEPT
    if kept.is_file():
        builder._context = open_keys(kept.read_bytes())
    else:
        builder.initialize(project, ctx)
        _write_private(kept, builder.get_serialized_context(is_client=True))
    builder.build(project, ctx)
    for participant in project.get_all_participants():
        for name in (SITE_KEYS, SERVER_KEYS):
            path = Path(ctx.get_kit_dir(participant)) / name
            if path.is_file():
                path.chmod(0o600)


def new_keys(bits: tuple[int, ...] = MODULUS_BITS, scale_bits: int = SCALE_BITS) -> KeyFiles:
    """Make keys that no project has yet.

    Args:
        bits: of each modulus; NVFlare's own defaults are 60, 40 and 40.
        scale_bits: a value is rounded to multiples of 2 to the minus this; NVFlare's default is 40.

    Raises:
        ConfigError: TenSEAL is not installed.
    """
    builder = _builder(bits, scale_bits)
    builder.initialize(None, None)
    return KeyFiles(
        builder.get_serialized_context(is_client=True), builder.get_serialized_context()
    )


def _builder(bits: tuple[int, ...], scale_bits: int) -> Any:
    tenseal()
    from nvflare.lighter.impl.he import HEBuilder

    return HEBuilder(DEGREE, list(bits), scale_bits)


def refuse_kits_without_keys(project_file: Path, workspace: Path) -> None:
    """Refuse one more kit with a key where the first kits have none.

    Where an earlier change of the key was cut off, the key that the newest kits hold counts.

    Raises:
        ConfigError: the project asks for encryption, and its kits were made before it did.
    """
    project = read_yaml(project_file)
    if not asks_for_keys(project):
        return
    kept = workspace / str(project.get("name", "")) / "state" / _KEPT
    _settle(kept, kit_folders(project_file, workspace))
    if not kept.is_file():
        raise ConfigError(
            f"{project_file}: it says 'encryption: true', but the kits in {workspace} were made "
            "without; nobody could read what one new kit encrypts. Make everybody's kit anew: "
            f"nvflare provision -p {project_file} -w {workspace}"
        )


def replace_key(project_file: Path, workspace: Path) -> Path:
    """Make kits for server and sites with a new key for encrypted averaging; returns their folder.

    Certificates stay as they are. What is encrypted with the old key no holder of the new one takes
    for a mean, and the old key opens nothing that is encrypted from now on.

    Args:
        project_file: the project, with everybody who is to have the new key.
        workspace: the folder given to ``nvflare provision -w``.

    Raises:
        ConfigError: the project asks for no keys, or its kits were made without.
    """
    project = read_yaml(project_file)
    if not asks_for_keys(project):
        raise ConfigError(
            f"{project_file}: it does not say 'encryption: true' below the arguments of "
            "KitBuilder, so there is no key to replace (provision/README.md)"
        )
    refuse_kits_without_keys(project_file, workspace)
    kept = workspace / str(project["name"]) / "state" / _KEPT
    before, new = kept.with_name(_BEFORE), new_keys().site_file
    _write_private(before, kept.read_bytes())
    _write_private(kept, new)
    try:
        made = provision(project_file, workspace)
    except BaseException:
        before.replace(kept)
        raise
    before.unlink()
    for participant in project["participants"]:
        if participant["type"] == "admin":  # they hold no key, and nothing of theirs has changed
            shutil.rmtree(made / str(participant["name"]))
    return made


def _settle(kept: Path, folders: Sequence[Path]) -> None:
    """End a change of the key that was cut off: what the newest kits hold is the project's key.

    Args:
        kept: the key in the project's state.
        folders: of kits, oldest first.
    """
    before = kept.with_name(_BEFORE)
    if not before.is_file():
        return
    held = [path for folder in folders for path in sorted(folder.glob(f"*/startup/{SITE_KEYS}"))]
    if held and kept.is_file() and held[-1].read_bytes() == kept.read_bytes():
        before.unlink()
    else:
        before.replace(kept)


def asks_for_keys(project: dict[str, Any]) -> bool:
    """Whether a project file asks for keys."""
    builders = project.get("builders") or []
    ours = [b for b in builders if isinstance(b, dict) and b.get("path") == BUILDER]
    return any((builder.get("args") or {}).get("encryption") is True for builder in ours)


def check_keys(kit: Path, kind: str) -> bool:
    """Check the keys in a kit; returns whether it has some.

    Args:
        kit: the kit's folder.
        kind: ``server``, ``client`` or ``admin``.

    Raises:
        ConfigError: somebody holds what they must not, or TenSEAL is not installed.
        EncryptionError: a damaged key.
    """
    own = {"server": SERVER_KEYS, "client": SITE_KEYS}.get(kind)
    for name in (SITE_KEYS, SERVER_KEYS):
        if name != own and (kit / "startup" / name).exists():
            raise ConfigError(
                f"{kit / 'startup' / name}: belongs to another kind of participant, who may read "
                "what this one must not; remove it, and ask the project admin how it came here"
            )
    path = kit / "startup" / str(own)
    if own is None or not path.is_file():
        return False
    keys = open_keys(path.read_bytes())
    if keys.has_secret_key() != (kind == "client"):
        raise ConfigError(
            f"{path}: "
            + (
                "holds the sites' secret key, with which this server could read every update"
                if kind == "server"
                else "holds no secret key"
            )
            + "; ask the project admin for a new kit"
        )
    return True


def open_model(kit: Path, path: Path) -> dict[str, Any]:
    """Decrypt a global model with a site's key.

    Args:
        kit: the kit of a site.
        path: an encrypted model, from the result of a job.

    Returns:
        float32 arrays by name.

    Raises:
        ConfigError: the kit is no site's, holds no key, or was changed.
        DataError: the file holds no such model, or was encrypted with another key.
    """
    from lightning_modules.sharing.tensor_file import read_encrypted_model

    key = kit / "startup" / ProvFileName.CLIENT_CONTEXT_TENSEAL
    if not key.is_file():
        raise ConfigError(
            f"{kit}: no kit of a site with a key for encrypted averaging (startup/{key.name}); "
            "name one with --kit"
        )
    if not startup_is_genuine(kit / "startup"):
        raise ConfigError(f"{kit / 'startup'}: changed since it was signed; unpack the kit again")
    message = read_encrypted_model(path)
    try:
        if not is_encrypted(message):
            raise EncryptionError("holds no encrypted model")
        return decrypted_model(message, open_keys(key.read_bytes()))
    except EncryptionError as error:
        raise DataError(f"{path}: {error}") from error


def _write_private(path: Path, content: bytes) -> None:
    with replacing(path, PRIVATE_FILE) as temporary:
        temporary.write_bytes(content)
