"""The content of an NVFlare job folder: plain dictionaries, computed from a federated experiment.

The job carries configuration only. Code is installed at every participant beforehand, and each
participant's allow-list (``app_custom.participant.allowed_classes``) names what it may build.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fedi2i.digest import digest
from fedi2i.typed_config import as_dict
from jobs.privacy.catalogue import (
    privacy_values,
    with_mechanism_at_server,
    with_mechanism_at_site,
)
from jobs.writing import evaluation_job
from jobs.writing.federation import FederatedExperiment
from jobs.writing.hostile_sites import refuse_hostile_sites
from jobs.writing.topologies import parts, ring, star, swarm
from jobs.writing.topologies.parts import Config, ServerSide, SiteSide, plain_site
from lightning_modules.configuration import experiment_values
from lightning_modules.strategies.interface import RING, STAR, SWARM

_CUT_NETWORK: Config = {
    # NVFlare asks for arrays piece by piece. A piece that a cut network has lost is asked for again
    # after so many seconds, by default 600; the sender keeps it for 300.
    "np_streaming_per_request_timeout": 60.0,
}


def meta(name: str, job: FederatedExperiment) -> Config:
    """``meta.json``: names the sites, so that no command needs to."""
    return {
        "name": name,
        "resource_spec": {
            site: {"num_of_gpus": number, "mem_per_gpu_in_GiB": job.federation.gpu_memory}
            for site, number in job.federation.gpus.items()
            if number
        },
        "deploy_map": {"app_server": ["server"], "app_site": list(job.federation.sites)},
        "min_clients": job.federation.needed,
        "mandatory_clients": [],
    }


def server_config(name: str, job: FederatedExperiment) -> Config:
    """``config_fed_server.json``."""
    server, _ = _topology(job)
    side = with_mechanism_at_server(server(run_name(name, job), job), job)
    return {
        "format_version": 2,
        # Waiting between questions is pure loss where a round takes seconds.
        "server": {"heart_beat_timeout": 600, "task_request_interval": 0.1},
        "dead_client_grace_period": 5.0,
        "dead_client_check_lead_time": 5.0,
        **_CUT_NETWORK,
        "task_data_filters": parts.compressing(job),
        "task_result_filters": parts.restoring(job),
        "components": side.components,
        "workflows": side.workflows,
    }


def site_config(name: str, job: FederatedExperiment) -> Config:
    """``config_fed_client.json``."""
    _, site = _topology(job)
    side = with_mechanism_at_site(site(run_name(name, job), job), job)
    return {
        "format_version": 2,
        "default_task_fetch_interval": 0.1,
        **_CUT_NETWORK,
        **side.variables,
        "executors": side.executors,
        "task_data_filters": side.task_data_filters,
        "task_result_filters": side.task_result_filters,
        "components": side.components,
    }


def run_name(name: str, job: FederatedExperiment) -> str:
    """Job name and a hash of everything that makes the result: another setting, another run."""
    content: Config = {
        "sites": job.federation.sites,
        "initial_model": job.federation.initial_model,
        "experiment": experiment_values(job.experiment),
    }
    if job.federation.compression != "none":  # runs without it keep the name they have had
        content["compression"] = job.federation.compression
    if job.federation.participation.acts:
        content["participation"] = as_dict(job.federation.participation)
        content["min_sites"] = job.federation.needed
    if job.federation.hostile:
        content["hostile"] = as_dict(job.federation)["hostile"]
    if job.privacy.acts:
        content["privacy"] = privacy_values(job.privacy)
    # The name becomes a folder's at every participant, which takes it only in plain characters.
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip("_.-") or "job"
    if plain != name:
        content["name"] = name
    return f"{plain}-{digest(content)[:12]}"


Topology = tuple[
    Callable[[str, FederatedExperiment], ServerSide],
    Callable[[str, FederatedExperiment], SiteSide],
]

_TOPOLOGIES: dict[str, Topology] = {
    STAR: (star.server, plain_site),
    RING: (ring.server, plain_site),
    SWARM: (swarm.server, swarm.site),
}


def _topology(job: FederatedExperiment) -> Topology:
    """Who sends models to whom; every job that is written passes here."""
    refuse_hostile_sites(job)
    if job.only_evaluates:
        return evaluation_job.server, evaluation_job.site
    return _TOPOLOGIES[job.experiment.strategy.record.topology]
