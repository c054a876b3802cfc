"""Refuse a job that names a class off the participant's allow-list, before anything starts.

NVFlare refuses such a class when it builds it: the job has started by then, and whoever submitted
it reads no more than ``EXECUTION_EXCEPTION``. This check runs when the job arrives, and its
sentence goes back to the submitter. NVFlare's own check stays the gate; this one explains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from nvflare.apis.app_validation import AppValidator
from nvflare.apis.fl_constant import JobConstants, SystemConfigs
from nvflare.fuel.sec.audit import AuditService
from nvflare.fuel.utils.config_factory import ConfigFactory
from nvflare.fuel.utils.config_service import ConfigService

_CONFIGS = (JobConstants.SERVER_JOB_CONFIG, JobConstants.CLIENT_JOB_CONFIG)
_CLASS_KEYS = ("path", "class_path")

REFUSED = "class_check.refused"
"""The action in the participant's audit trail."""


class ClassCheck(AppValidator):
    """Holds the classes of an arriving job against the participant's ``class_allow_list``.

    Names are compared as a whole: a package name on the list stands for nothing below it.
    """

    def validate(self, app_folder: str) -> tuple[str, dict[str, Any]]:
        """Check one app; returns the reason for a refusal, or an empty text."""
        resources = ConfigService.get_section(SystemConfigs.RESOURCES_CONF) or {}
        allowed = frozenset(resources.get("class_allow_list", ()))
        refused = sorted(named_classes(Path(app_folder) / "config") - allowed)
        if not refused:
            return "", {}
        AuditService.add_event(user="system", action=REFUSED, msg=refusal(refused))
        return refusal(refused), {}


def refusal(classes: Collection[str]) -> str:
    """What the submitter reads."""
    return f"not on this participant's class_allow_list: {', '.join(classes)}"


def named_classes(folder: Path) -> set[str]:
    """All classes that the configurations in a job's ``config`` folder name."""
    configs = (ConfigFactory.load_config(name, [str(folder)]) for name in _CONFIGS)
    return {name for config in configs if config is not None for name in _classes(config.to_dict())}


def _classes(element: Any) -> Iterator[str]:
    if isinstance(element, dict):
        for key in _CLASS_KEYS:
            if isinstance(element.get(key), str):
                yield element[key]
        element = list(element.values())
    if isinstance(element, list):
        for value in element:
            yield from _classes(value)
