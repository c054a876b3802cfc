"""Check a startup kit where it is installed, before it is started: one line per finding."""

from __future__ import annotations

import datetime
import importlib.util
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from app_custom.gates.job_limits import JobLimits
from app_custom.gates.site_policy import missing_gates, missing_guard
from app_custom.participant.allowed_classes import ALLOWED_CLASSES
from app_custom.participant.site_configuration import FILE_NAME, data_folder, read_site_config
from fedi2i.errors import ConfigError, UserError
from lightning_modules.privacy.encrypted_sums import EncryptionError
from partitions.manifest import read_manifest
from provision.encryption import check_keys
from provision.kit import Kit, open_kit, unreadable
from provision.kit_route import proxy, way_to_server
from provision.local_policy import CLASS_CHECK, OWN_COMPONENTS, SITE_COMPONENTS
from provision.permissions import forbidden_rights
from provision.startup_folder import startup_is_genuine

_SOON = datetime.timedelta(days=30)


def check_kit(folder: Path) -> tuple[list[str], list[str]]:
    """Check a kit; returns what is in order and what is to be fixed, a sentence each.

    Raises:
        ConfigError: the folder is no kit.
    """
    kit = open_kit(folder)
    fine: list[str] = []
    wrong: list[str] = []
    for check in _CHECKS:
        try:
            fine.extend(check(kit))
        except UserError as error:
            wrong.append(str(error))
        except PermissionError as error:
            wrong.append(unreadable(error.filename))
    return fine, wrong


def check_before_start(folder: Path) -> None:
    """What must keep a participant from starting although NVFlare does not see to it.

    Raises:
        ConfigError: the folder is no kit or was made by another version, its certificate is not
            valid now, the site's privacy policy is not there, or its proxy cannot be one.
    """
    kit = open_kit(folder)
    for check in (_version, _certificate, _privacy_policy, proxy):
        for _ in check(kit):
            pass


def _version(kit: Kit) -> Iterator[str]:
    """NVFlare would end with a traceback about the first class that it does not find."""
    if kit.kind == "admin":
        return
    found = kit.resources
    parts = [found.get("app_validator") or {}, *found.get("components", [])]
    paths = [str(part.get("path")) for part in parts]
    for path in (path for path in paths if path.startswith("app_custom.")):
        try:
            known = importlib.util.find_spec(path.rpartition(".")[0]) is not None
        except ModuleNotFoundError:  # not even its folder
            known = False
        if not known:
            raise ConfigError(
                f"{kit.folder}: made by another version of FedI2I (it names {path}); take "
                "'startup', 'local/resources.json' and 'local/privacy.json' from a kit that this "
                "version makes: ask the project admin to renew it (docs/upgrading.md)"
            )
    yield "version: the installed FedI2I has the classes that the kit names"


def _startup(kit: Kit) -> Iterator[str]:
    if not startup_is_genuine(kit.folder / "startup"):
        raise ConfigError(
            f"{kit.folder / 'startup'}: a file was changed or added since it was signed; unpack "
            "the kit again, or ask the project admin for a new one"
        )
    yield "startup: every file is as it was signed"


def _certificate(kit: Kit) -> Iterator[str]:
    certificate = _read_certificate(kit.certificate)
    root_file = kit.folder / "startup" / "rootCA.pem"
    root = _read_certificate(root_file)
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError) as error:
        raise ConfigError(
            f"{kit.certificate}: not signed by the project's {root_file.name}; ask the project "
            "admin for a new kit"
        ) from error
    now = datetime.datetime.now(datetime.UTC)
    left = certificate.not_valid_after_utc - now
    day = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    if left < datetime.timedelta(0) or now < certificate.not_valid_before_utc:
        raise ConfigError(
            f"{kit.certificate}: valid from {certificate.not_valid_before_utc:%Y-%m-%d} to {day}, "
            "but this machine's clock says otherwise; set it, or ask for a renewed certificate"
        )
    warning = "; ask the project admin to renew it" if left < _SOON else ""
    yield f"certificate: valid until {day}{warning}"


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"{path}: missing or damaged; unpack the kit again") from error


def _private_key(kit: Kit) -> Iterator[str]:
    key = kit.certificate.with_suffix(".key")
    if not os.access(key, os.R_OK):
        raise ConfigError(
            f"{key}: cannot be read by this account; run as the account it belongs to"
        )
    if key.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{key}: others may read this private key; run 'chmod 600 {key}'")
    yield "private key: readable for this account only"


def _closed(kit: Kit) -> Iterator[str]:
    """Logs in it may name files and patients, and NVFlare writes them for everybody to read."""
    if kit.folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"{kit.folder}: other accounts of this machine may look into it, and logs in it may "
            f"name patients' files; run 'chmod 700 {kit.folder}'"
        )
    yield "folder: open to this account only"


def _writable(kit: Kit) -> Iterator[str]:
    folders = [kit.folder]
    if kit.kind == "server":
        folders.append(_nearest_existing(Path(_server_storage(kit))))
    for folder in folders:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(f"{folder}: not writable for this account; logs and jobs go there")
    yield "folders: writable"


def _server_storage(kit: Kit) -> str:
    try:
        components = kit.resources["components"]
        (root,) = (str(c["args"]["uri_root"]) for c in components if c["id"] == "job_manager")
    except (KeyError, TypeError, ValueError) as error:
        path = kit.folder / "local" / "resources.json"
        raise ConfigError(f"{path}: names no job storage; unpack the kit again") from error
    return root


def _nearest_existing(folder: Path) -> Path:
    return folder if folder.exists() else _nearest_existing(folder.parent)


def _allow_list(kit: Kit) -> Iterator[str]:
    if kit.kind == "admin":
        return
    listed = kit.resources.get("class_allow_list", [])
    missing = sorted(set(ALLOWED_CLASSES) - set(listed))
    added = sorted(set(listed) - set(ALLOWED_CLASSES))
    if added:
        raise ConfigError(
            f"{kit.folder / 'local/resources.json'}: class_allow_list also has {', '.join(added)}, "
            "which FedI2I does not need; take it away"
        )
    note = f"; refused here: {', '.join(missing)}" if missing else ""
    yield f"allow-list: {len(listed)} classes, none besides FedI2I's{note}"


def _own_components(kit: Kit) -> Iterator[str]:
    """What refuses and writes down refusals must be there, and what sends logs must not."""
    if kit.kind == "admin":
        return
    found = kit.resources
    validator = found.get("app_validator") or {}
    gates = bool((validator.get("args") or {}).get("needs_gates"))
    needed = OWN_COMPONENTS + (SITE_COMPONENTS if kit.kind == "client" else ())
    present = {component.get("path") for component in found.get("components", [])}
    faults = {
        "class_list_enforcement_mode is not 'enforce'": (
            found.get("class_list_enforcement_mode") != "enforce"
        ),
        "its app_validator is not the kit's": (
            validator.get("path") != CLASS_CHECK or gates != (kit.kind == "client")
        ),
        **{f"it lacks {path}": path not in present for path in needed},
        "allow_log_streaming is true": bool(found.get("allow_log_streaming")),
    }
    wrong = [fault for fault, holds in faults.items() if holds]
    if wrong:
        raise ConfigError(
            f"{kit.folder / 'local/resources.json'}: {'; '.join(wrong)}; unpack the file again"
        )
    yield "resources: classes are enforced, refusals are audited, no logs are sent"


def _privacy_policy(kit: Kit) -> Iterator[str]:
    """NVFlare runs a participant without a policy as one that limits nothing."""
    if kit.kind == "admin":
        return
    found = kit.local("privacy.json")
    if kit.kind == "server":
        lacking = missing_guard(found)
        if lacking:
            raise ConfigError(f"{kit.folder / 'local/privacy.json'}: {lacking}; unpack it again")
        yield "privacy policy: senders are compared in every job"
        return
    lacking = missing_gates(found)
    if lacking:
        raise ConfigError(
            f"{kit.folder / 'local/privacy.json'}: {lacking}, so nothing at this site would limit "
            "what jobs send; unpack the file again, then shorten its lists"
        )
    yield "privacy policy: checks every answer of every job"


def _rights(kit: Kit) -> Iterator[str]:
    if kit.kind != "admin":
        path = kit.folder / "local/authorization.json"
        granted = forbidden_rights(kit.local(path.name))
        if granted:
            raise ConfigError(
                f"{path}: {granted}; code and shell commands must be 'none' for every role; "
                "unpack the file again"
            )
        yield "authorization: nobody may bring code or read files"


def _data(kit: Kit) -> Iterator[str]:
    if kit.kind != "client":
        return
    config = read_site_config(kit.folder / "local")
    if not config.datasets:
        raise ConfigError(
            f"{kit.folder / 'local' / FILE_NAME}: maps no data set; below 'datasets' write the "
            "name that jobs use and the folder with its manifest.json, e.g. demo: /data/fedi2i/demo"
        )
    site = _site_name(kit)
    for dataset in config.datasets:
        manifest = read_manifest(data_folder(config, dataset, site), expected_site=site)
        yield f"data set {dataset}: {len(manifest.subjects)} subjects"
    yield from _limits(config.limits)
    if config.share_images:
        yield f"note: {FILE_NAME} lets pictures of a validation patient leave (share_images: true)"


def _limits(limits: JobLimits) -> Iterator[str]:
    """A site may relax its limits; then it should know."""
    relaxed = [name for name in vars(limits) if _is_relaxed(limits, name)]
    if relaxed:
        yield f"note: {FILE_NAME} lets jobs ask for more or less than is safe: {', '.join(relaxed)}"


def _is_relaxed(limits: JobLimits, name: str) -> bool:
    value, usual = getattr(limits, name), getattr(JobLimits(), name)
    return bool(value < usual if name.startswith("least_") else value > usual)


def _site_name(kit: Kit) -> str:
    """The site's name, which is its certificate's; the folder may have been renamed."""
    certificate = _read_certificate(kit.certificate)
    return str(certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def _encryption(kit: Kit) -> Iterator[str]:
    try:
        if check_keys(kit.folder, kit.kind):
            yield "encryption: the kit has its key for encrypted averaging"
    except EncryptionError as error:
        raise ConfigError(f"{kit.folder / 'startup'}: {error}") from error


_CHECKS: tuple[Callable[[Kit], Iterator[str]], ...] = (
    _startup,
    _version,
    _certificate,
    _private_key,
    _closed,
    _writable,
    _allow_list,
    _own_components,
    _privacy_policy,
    _rights,
    _encryption,
    _data,
    proxy,
    way_to_server,
)
