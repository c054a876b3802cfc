"""Our Builder: what a participant may run, send and decide, written into its startup kit.

It stands in ``project.yml`` after NVFlare's own builders for files and certificates, and rewrites
what those left in ``local``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from nvflare.lighter.constants import CtxKey, ParticipantType, PropKey, ProvFileName
from nvflare.lighter.ctx import ProvisionContext
from nvflare.lighter.entity import Participant, Project
from nvflare.lighter.spec import Builder

from app_custom.participant.site_configuration import FILE_NAME
from fedi2i.errors import ConfigError
from fedi2i.files import write_text
from provision.encryption import write_keys
from provision.kit_texts import (
    KitFacts,
    kit_readme,
    person_config_template,
    server_config_template,
    site_config_template,
)
from provision.local_policy import (
    person_resources,
    privacy_policy,
    server_policy,
    server_resources,
    site_resources,
)
from provision.permissions import PERMISSIONS
from provision.startup_folder import HEARTBEAT_TIMEOUT_SECONDS, complete_startup

_STORAGE = "storage"
"""The server's property in ``project.yml``; GPUs of sites are NVFlare's ``capacity``."""

_CERTIFICATES = {ParticipantType.SERVER: "server.crt"}


class KitBuilder(Builder):
    """Writes allow-list, permissions, privacy policy, data mapping and read-me; signs ``startup``.

    Args:
        datasets: names of the project's data sets, for the sites' data mapping.
        heartbeat_timeout: seconds of silence after which the server takes a site for lost.
        encryption: whether server and sites get keys for encrypted averaging.
    """

    def __init__(
        self,
        datasets: Sequence[str],
        heartbeat_timeout: int = HEARTBEAT_TIMEOUT_SECONDS,
        encryption: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(encryption, bool):
            raise ConfigError(f"project file: encryption is '{encryption}'; write true or false")
        self._datasets = tuple(datasets)
        self._heartbeat_timeout = heartbeat_timeout
        self._encryption = encryption

    def build(self, project: Project, ctx: ProvisionContext) -> None:
        """Complete the kit of every participant."""
        # It holds every private key, the root's included, for later kits.
        Path(ctx.get_state_dir()).chmod(0o700)
        if self._encryption:
            write_keys(project, ctx)  # before 'startup' is signed
        for participant in project.get_all_participants():
            local = Path(ctx.get_local_dir(participant))
            if participant.type == ParticipantType.SERVER:
                _write_server(local, participant)
            elif participant.type == ParticipantType.CLIENT:
                self._write_site(local, participant)
            elif participant.type == ParticipantType.ADMIN:
                _write_person(local)
            _write_readme(participant, project, ctx)
            startup = Path(ctx.get_kit_dir(participant))
            complete_startup(startup, ctx[CtxKey.ROOT_PRI_KEY], self._heartbeat_timeout)
            # The participant's logs go there, and NVFlare writes them for everybody to read.
            Path(ctx.get_ws_dir(participant)).chmod(0o700)

    def _write_site(self, local: Path, site: Participant) -> None:
        template = _taken(local / ProvFileName.RESOURCES_JSON_DEFAULT)
        gpus = site.get_prop(PropKey.CAPACITY)
        _write_json(local / "resources.json", site_resources(template, gpus))
        _write_json(local / "privacy.json", privacy_policy())
        write_text(local / FILE_NAME, site_config_template(self._datasets))
        _write_permissions(local)


def _write_server(local: Path, server: Participant) -> None:
    template = _taken(local / ProvFileName.RESOURCES_JSON_DEFAULT)
    resources = server_resources(template, server.get_prop(_STORAGE))
    _write_json(local / "resources.json", resources)
    _write_json(local / "privacy.json", server_policy())
    write_text(local / FILE_NAME, server_config_template())
    _write_permissions(local)


def _write_person(local: Path) -> None:
    template = _taken(local / ProvFileName.RESOURCES_JSON_DEFAULT)
    _write_json(local / "resources.json", person_resources(template))
    write_text(local / FILE_NAME, person_config_template())


def _write_permissions(local: Path) -> None:
    # NVFlare reads a file without '.default' first; with only one there is no doubt which counts.
    (local / ProvFileName.AUTHORIZATION_JSON_DEFAULT).unlink()
    (local / ProvFileName.PRIVACY_JSON_SAMPLE).unlink()
    _write_json(local / "authorization.json", PERMISSIONS)


def _write_readme(participant: Participant, project: Project, ctx: ProvisionContext) -> None:
    folder = Path(ctx.get_ws_dir(participant))
    startup = Path(ctx.get_kit_dir(participant))
    certificate = x509.load_pem_x509_certificate(
        (startup / _CERTIFICATES.get(participant.type, "client.crt")).read_bytes()
    )
    facts = KitFacts(
        name=participant.name,
        org=participant.org,
        host=project.get_server().get_default_host(),
        port=ctx[CtxKey.FED_LEARN_PORT],
        authority=ctx[CtxKey.ROOT_CERT].fingerprint(hashes.SHA256()).hex(":"),
        expires=f"{certificate.not_valid_after_utc:%Y-%m-%d}",
        gpus=_gpus(participant.get_prop(PropKey.CAPACITY)),
    )
    for old in (folder / ProvFileName.README_TXT, startup / ProvFileName.README_TXT):
        old.unlink(missing_ok=True)
    write_text(folder / "README.md", kit_readme(str(participant.type), facts))


def _gpus(capacity: dict[str, Any] | None) -> str:
    if capacity is None:
        return "none"
    return f"{capacity['num_of_gpus']} with {capacity['mem_per_gpu_in_GiB']} GiB each"


def _taken(path: Path) -> dict[str, Any]:
    """The content of a JSON file, which is removed: ours takes its place."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
