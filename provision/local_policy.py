"""What a participant lets jobs do: its ``local/resources.json``, and a site's ``privacy.json``.

``resources.json`` says which classes may run, how many GPUs there are, and where the server stores
jobs. It starts from what NVFlare's ``StaticFileBuilder`` wrote and changes what is ours to decide.

``privacy.json`` holds what runs in every job's process at a participant: the guard that holds
messages against their true senders and, at sites, filters, which run before the job's filters. A
job's ``AllowedUpdate`` names what this job shares; the site's policy names the most that any of our
jobs may share. So a job that asks for more is stopped at the site, whatever its own filters.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from app_custom.gates.site_policy import ANSWERS_GATE, JOB_GUARD, MESSAGES_GATE
from app_custom.participant.allowed_classes import ALLOWED_CLASSES
from fedi2i.errors import ConfigError
from lightning_modules.model_networks import MODELS
from lightning_modules.strategies.catalogue import EXTRAS

Resources = dict[str, Any]

_NO_GPUS = {"num_of_gpus": 0, "mem_per_gpu_in_GiB": 0}
_CONSUMER = "nvflare.app_common.resource_consumers"
# Sends a site's error log to the server; and what receives it there.
_LOG_STREAMING = ("site_log_streamer", "log_receiver")
CLASS_CHECK = "app_custom.participant.class_check.ClassCheck"
_REFUSAL_AUDIT: Resources = {
    "id": "refusal_audit",
    "path": "app_custom.participant.refusal_audit.RefusalAudit",
    "args": {},
}
_MESSAGE_GUARD: Resources = {
    "id": "message_guard",
    "path": "app_custom.participant.message_guard.MessageGuard",
    "args": {},
}
_SERVER_ROUTE: Resources = {
    "id": "server_route",
    "path": "app_custom.participant.proxy_driver.ServerRoute",
    "args": {},
}
SERVER_ROUTE = _SERVER_ROUTE["path"]
"""What lets a site or a person go through a proxy; the server goes nowhere."""

OWN_COMPONENTS = (_REFUSAL_AUDIT["path"], _MESSAGE_GUARD["path"])
"""What every participant's own process must run."""

_JOB_ADMISSION: Resources = {
    "id": "app_deployer",  # NVFlare looks for it by this name
    "path": "app_custom.participant.job_admission.JobAdmission",
    "args": {},
}
SITE_COMPONENTS = (_JOB_ADMISSION["path"],)
"""What a site's own process must run besides."""

_PATIENT_SCHEDULER = {"max_schedule_interval": 300.0, "max_schedule_count": 2016}
"""A job that waits for GPUs or sites is tried every five minutes for a week. NVFlare's default
gives up after ten tries, while the job before it may train for days."""

_RETURNED_SITES = {
    "id": "returned_sites",
    "path": "app_custom.server.site_watch.ReturnedSites",
    "args": {},
}

_DEPLOYED_CONFIGURATIONS = {
    "id": "deployed_configurations",
    "path": "app_custom.checkpoints.run_key.DeployedConfigurations",
    "args": {},
}

_JOBS_WITH_REASONS = "app_custom.ended_jobs.JobsWithReasons"
"""In the place of NVFlare's own store of jobs."""

_JOB_GUARD = {"id": "job_guard", "path": JOB_GUARD, "args": {}}

SCOPE = "fedi2i"
"""The one privacy scope. A job that names another is refused; one that names none gets this."""


def site_resources(template: Resources, gpus: dict[str, Any] | None) -> Resources:
    """A site's ``resources.json``.

    Args:
        template: NVFlare's.
        gpus: ``num_of_gpus`` and ``mem_per_gpu_in_GiB`` from the site's ``capacity``, or None.

    Raises:
        ConfigError: a capacity that cannot be.
    """
    resources = _with_our_policy(template)
    resources["allow_log_streaming"] = False
    resources["app_validator"] = {"path": CLASS_CHECK, "args": {"needs_gates": True}}
    resources["components"] = [
        *(_scheduling(component, gpus) for component in resources["components"]),
        _JOB_ADMISSION,
        _SERVER_ROUTE,
    ]
    return resources


def person_resources(template: Resources) -> Resources:
    """The ``resources.json`` of a person's console.

    Args:
        template: NVFlare's.
    """
    return {**template, "handlers": [{"path": SERVER_ROUTE, "args": {}}]}


def server_resources(template: Resources, storage: str | None) -> Resources:
    """The server's ``resources.json``.

    Args:
        template: NVFlare's; it stores jobs in a folder for temporary files.
        storage: the folder for jobs and results.

    Raises:
        ConfigError: no storage folder, or one that is not absolute.
    """
    if not storage or not PurePosixPath(storage).is_absolute():
        raise ConfigError(
            f"project file: the server's storage is '{storage or ''}'; write an absolute folder "
            "where it may keep jobs and results, e.g. storage: /var/lib/fedi2i"
        )
    resources = _with_our_policy(template)
    resources["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = f"{storage}/snapshots"
    for component in resources["components"]:
        if component["id"] == "job_manager":
            component["path"] = _JOBS_WITH_REASONS
            component["args"]["uri_root"] = f"{storage}/jobs"
        if component["id"] == "job_scheduler":
            component["args"] |= _PATIENT_SCHEDULER
    resources["components"] += [_RETURNED_SITES, _DEPLOYED_CONFIGURATIONS]
    return resources


def server_policy() -> dict[str, Any]:
    """The content of the server's ``privacy.json``: what runs in every job's process there.

    NVFlare builds such components in the process of each job, whatever the job's configuration
    says. It needs a scope for that; the server's filters nothing.
    """
    return {
        "components": [_JOB_GUARD],
        "scopes": [{"name": SCOPE, "properties": {}}],
        "default_scope": SCOPE,
    }


def privacy_policy() -> dict[str, Any]:
    """The content of a site's ``privacy.json``."""
    most = {
        "networks": list(dict.fromkeys(n for model in MODELS.values() for n in model.names)),
        "arrays": list(EXTRAS),
    }
    return {
        "components": [_JOB_GUARD],
        "scopes": [
            {
                "name": SCOPE,
                "properties": {},
                "task_result_filters": [{"path": ANSWERS_GATE, "args": most}],
                # In a swarm sites send to each other; NVFlare filters those messages as data.
                "task_data_filters": [{"path": MESSAGES_GATE, "args": most, "direction": "out"}],
            }
        ],
        "default_scope": SCOPE,
    }


def _with_our_policy(template: Resources) -> Resources:
    return {
        **template,
        "class_list_enforcement_mode": "enforce",
        "class_allow_list": list(ALLOWED_CLASSES),
        "app_validator": {"path": CLASS_CHECK, "args": {}},
        "components": [
            *(c for c in template["components"] if c["id"] not in _LOG_STREAMING),
            _REFUSAL_AUDIT,
            _MESSAGE_GUARD,
        ],
    }


def _scheduling(component: Resources, gpus: dict[str, Any] | None) -> Resources:
    """Whole GPUs for the jobs that ask for them; none where the project names none."""
    if component["id"] == "resource_manager":
        arguments = _NO_GPUS if gpus is None else _checked(gpus)
        path = "app_custom.participant.exclusive_gpus.ExclusiveGPUs"
        return {"id": component["id"], "path": path, "args": arguments}
    if component["id"] == "resource_consumer" and gpus is None:
        path = f"{_CONSUMER}.passthrough_resource_consumer.PassthroughResourceConsumer"
        return {"id": component["id"], "path": path, "args": {}}
    return component


def _checked(gpus: dict[str, Any]) -> dict[str, Any]:
    number, memory = gpus.get("num_of_gpus"), gpus.get("mem_per_gpu_in_GiB")
    whole = isinstance(number, int) and not isinstance(number, bool) and number > 0
    if not whole or not isinstance(memory, int | float) or memory <= 0:
        raise ConfigError(
            f"project file: capacity is {gpus}; write e.g. "
            "capacity: {num_of_gpus: 2, mem_per_gpu_in_GiB: 24}, or leave it out without GPUs"
        )
    return {"num_of_gpus": number, "mem_per_gpu_in_GiB": memory}
