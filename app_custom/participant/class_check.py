"""Refuse a job that names a class off the participant's allow-list, or brings or names files.

NVFlare refuses such a class when it builds it: the job has started by then, and whoever submitted
it reads no more than ``EXECUTION_EXCEPTION``. This check runs when the job arrives, and its
sentence goes back to the submitter. NVFlare's own check stays the gate; this one explains.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from nvflare.apis.app_validation import AppValidator
from nvflare.apis.fl_constant import JobConstants, SystemConfigs, WorkspaceConstants
from nvflare.fuel.utils.config_factory import ConfigFactory
from nvflare.fuel.utils.config_service import ConfigService
from nvflare.lighter.tool_consts import NVFLARE_SIG_FILE, NVFLARE_SUBMITTER_CRT_FILE

from app_custom.audit_trail import audit
from app_custom.gates.site_policy import policy_fault
from lightning_modules.model_networks import ROLES
from partitions.own_code import is_allowed

_CONFIGS = (JobConstants.SERVER_JOB_CONFIG, JobConstants.CLIENT_JOB_CONFIG)
_SIGNATURES = (NVFLARE_SIG_FILE, NVFLARE_SUBMITTER_CRT_FILE)
"""NVFlare signs a submitted job with a file in each of its folders."""

_CLASS_KEYS = ("path", "class_path")
_OURS = ("app_custom.", "lightning_modules.")

REFUSED = "class_check.refused"
"""The action in the participant's audit trail."""


class ClassCheck(AppValidator):
    """Holds the classes of an arriving job against the participant's ``class_allow_list``.

    Names are compared as a whole: a package name on the list stands for nothing below it. An app
    is its two configurations and nothing else, and no value in them leads out of its folder: the
    arguments of a listed class must not reach other files of the participant. NVFlare replaces what
    stands in braces, by environment variables among others, so braces are refused too.

    Args:
        needs_gates: whether this participant's ``privacy.json`` must hold the gates (at sites).
            NVFlare reads it anew for every job, and takes a missing one for no limits.
    """

    def __init__(self, needs_gates: bool = False) -> None:
        super().__init__()
        self._needs_gates = needs_gates

    def validate(self, app_folder: str) -> tuple[str, dict[str, Any]]:
        """Check one app; returns the reason for a refusal, or an empty text."""
        reason = self._policy_reason() or _reason(Path(app_folder))
        if reason:
            audit("system", REFUSED, reason)
        return reason, {}

    def _policy_reason(self) -> str:
        if not self._needs_gates:
            return ""
        found = ConfigService.find_file(WorkspaceConstants.PRIVACY_CONFIG)
        fault = policy_fault(Path(found) if found else None)
        return f"this site's privacy.json would limit nothing: {fault}" if fault else ""


def _reason(app: Path) -> str:
    """Say why an app is refused; an empty text if it is not."""
    resources = ConfigService.get_section(SystemConfigs.RESOURCES_CONF) or {}
    allowed = frozenset(resources.get("class_allow_list", ()))
    refused = sorted(named_classes(app / "config") - allowed)
    if refused:
        return refusal_sentence(refused)
    foreign = _refused_network(list(_configs(app / "config")))
    if foreign:
        return foreign
    listed = {app / "config" / name for name in _CONFIGS}
    # Code in 'custom' is for NVFlare's right 'byoc' to allow or refuse.
    others = sorted(
        path
        for path in app.rglob("*")
        if not path.is_dir()
        and path not in listed
        and path.name not in _SIGNATURES
        and path.relative_to(app).parts[0] != "custom"
    )
    if others:
        return f"holds more than its configuration: {others[0].relative_to(app)}"
    outside = sorted(set(_paths_outside(list(_configs(app / "config")))))
    if outside:
        return f"names a path outside the job: {outside[0]}"
    replaced = sorted(set(_braces(list(_configs(app / "config")))))
    return f"leaves a text to be replaced at the participant: {replaced[0]}" if replaced else ""


def _refused_network(configs: list[dict[str, Any]]) -> str:
    """Say which network of a lab's own this participant does not allow; an empty text if none.

    Where the list is, and what else stands on it, is not the submitter's to know.
    """
    for path in sorted(set(_own_networks(configs))):
        if not is_allowed(path):
            return (
                f"names a network that this participant does not allow: {path}; whoever answers "
                f"for it may do so by 'fedi2i provision allow {path}'"
            )
    return ""


def _own_networks(element: Any) -> Iterator[str]:
    """Find the classes in a model's settings: a ``kind`` that is a dotted path."""
    if isinstance(element, dict):
        for role in (*ROLES, "module"):
            network = element.get(role)
            kind = network.get("kind") if isinstance(network, dict) else None
            if isinstance(kind, str) and "." in kind:
                yield kind
        element = list(element.values())
    if isinstance(element, list):
        for value in element:
            yield from _own_networks(value)


def refusal_sentence(classes: Collection[str]) -> str:
    """Write the sentence that the submitter reads."""
    text = f"not on this participant's class_allow_list: {', '.join(classes)}"
    if any(name.startswith(_OURS) for name in classes):
        text += "; if another version of FedI2I wrote the job, export it again with this one"
    return text


def named_classes(folder: Path) -> set[str]:
    """Collect all classes that the configurations in a job's ``config`` folder name."""
    return {name for config in _configs(folder) for name in _classes(config)}


def _configs(folder: Path) -> Iterator[dict[str, Any]]:
    for name in _CONFIGS:
        config = ConfigFactory.load_config(name, [str(folder)])
        if config is not None:
            yield config.to_dict()


def _paths_outside(element: Any) -> Iterator[str]:
    """Find texts that are paths out of the job's own folder; none of our jobs needs one."""
    for text in _texts(element):
        if text.startswith(("/", "~", "\\")) or ".." in re.split(r"[/\\]", text):
            yield text


def _braces(element: Any) -> Iterator[str]:
    """Find texts that NVFlare would replace; none of our jobs needs that."""
    return (text for text in _texts(element) if "{" in text)


def _texts(element: Any) -> Iterator[str]:
    if isinstance(element, str):
        yield element
    elif isinstance(element, dict):
        for key, value in element.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(element, list):
        for value in element:
            yield from _texts(value)


def _classes(element: Any) -> Iterator[str]:
    if isinstance(element, dict):
        for key in _CLASS_KEYS:
            if isinstance(element.get(key), str):
                yield element[key]
        element = list(element.values())
    if isinstance(element, list):
        for value in element:
            yield from _classes(value)
