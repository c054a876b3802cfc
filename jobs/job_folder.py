"""The content of an NVFlare job folder: plain dictionaries, computed from a federated experiment.

The job carries configuration only. Code is installed at every participant beforehand, and each
participant's allow-list names the classes it may build (``app_custom.allowed_classes``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from jobs.federation import FederatedExperiment
from partitions.typed_config import as_dict

Config = dict[str, Any]

KEY_METRIC = "val/psnr"
TRAINING = "scatter_and_gather"
EVALUATION = "final_evaluation"


def meta(name: str, job: FederatedExperiment) -> Config:
    """``meta.json``: names the sites, so that no command needs to."""
    return {
        "name": name,
        "resource_spec": {},
        "deploy_map": {"app_server": ["server"], "app_site": list(job.federation.sites)},
        "min_clients": job.federation.needed,
        "mandatory_clients": [],
    }


def server_config(name: str, job: FederatedExperiment) -> Config:
    """``config_fed_server.json``."""
    return {
        "format_version": 2,
        # Waiting between questions is pure loss where a round takes seconds.
        "server": {"heart_beat_timeout": 600, "task_request_interval": 0.1},
        "dead_client_grace_period": 5.0,
        "dead_client_check_lead_time": 5.0,
        "task_data_filters": [],
        "task_result_filters": [],
        "components": _server_components(name, job),
        "workflows": _workflows(job),
    }


def site_config(job: FederatedExperiment) -> Config:
    """``config_fed_client.json``."""
    return {
        "format_version": 2,
        "default_task_fetch_interval": 0.1,
        "executors": [
            {
                "tasks": ["train", "validate"],
                "executor": {
                    "path": "app_custom.translation_executor.TranslationExecutor",
                    # All settings, not only what differs from defaults: a site whose installed
                    # version has other defaults must not silently train something else.
                    "args": {"settings": as_dict(job.experiment)},
                },
            }
        ],
        "task_data_filters": [],
        "task_result_filters": [
            {
                "tasks": ["train", "validate"],
                "filters": [
                    {
                        "path": "app_custom.filters.allowed_update.AllowedUpdate",
                        "args": {"sharing": job.experiment.sharing},
                    }
                ],
            }
        ],
        "components": [
            {
                "id": "curve_sender",
                "path": "nvflare.app_opt.tracking.tb.tb_writer.TBWriter",
                "args": {"event_type": "analytix_log_stats"},
            },
            {
                "id": "curve_forwarder",
                "path": "nvflare.app_common.widgets.convert_to_fed_event.ConvertToFedEvent",
                "args": {"events_to_convert": ["analytix_log_stats"], "fed_event_prefix": "fed."},
            },
        ],
    }


def run_name(name: str, job: FederatedExperiment) -> str:
    """Job name and a hash of everything that makes the result: another setting, another run."""
    content = {"sites": job.federation.sites, "experiment": as_dict(job.experiment)}
    text = json.dumps(content, sort_keys=True, default=list)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _workflows(job: FederatedExperiment) -> list[Config]:
    return [
        {
            "id": TRAINING,
            "path": "nvflare.app_common.workflows.scatter_and_gather.ScatterAndGather",
            "args": {
                "min_clients": job.federation.needed,
                "num_rounds": job.experiment.training.rounds,
                "start_round": 0,
                # Only matters with fewer needed sites than sites: how long to wait for the rest.
                "wait_time_after_min_received": 60,
                "task_check_period": 0.1,
                "aggregator_id": "aggregator",
                "persistor_id": "persistor",
                "shareable_generator_id": "shareable_generator",
                "train_task_name": "train",
                "train_timeout": 0,
            },
        },
        {
            "id": EVALUATION,
            "path": "nvflare.app_common.workflows.global_model_eval.GlobalModelEval",
            "args": {
                "task_check_period": 0.1,
                "model_locator_id": "final_model_locator",
                "validation_task_name": "validate",
            },
        },
    ]


def _server_components(name: str, job: FederatedExperiment) -> list[Config]:
    experiment = job.experiment
    model = {
        "path": "lightning_modules.networks.pix2pix_networks.SharedNetworks",
        "args": {
            "model": dataclasses.asdict(experiment.model),
            "sharing": experiment.sharing,
            "seed": experiment.seed,
        },
    }
    return [
        _component(
            "persistor",
            "nvflare.app_opt.pt.file_model_persistor.PTFileModelPersistor",
            model=model,
        ),
        _component(
            "shareable_generator",
            "nvflare.app_common.shareablegenerators.full_model_shareable_generator."
            "FullModelShareableGenerator",
        ),
        _component(
            "aggregator",
            "app_custom.aggregators.fedavg.FedAvgAggregator",
            min_sites=job.federation.needed,
        ),
        _component(
            "model_selector",
            "nvflare.app_common.widgets.intime_model_selector.IntimeModelSelector",
            key_metric=KEY_METRIC,
        ),
        _component("final_model_locator", "app_custom.final_model.FinalModelLocator"),
        *_server_widgets(name, job),
    ]


def _server_widgets(name: str, job: FederatedExperiment) -> list[Config]:
    """Widgets hear events in this order: numbers first, then who compares, then who saves."""
    return [
        _component("global_metrics", "app_custom.widgets.global_metrics.GlobalMetrics"),
        _component(
            "final_selection",
            "app_custom.widgets.final_selection.FinalSelection",
            key_metric=KEY_METRIC,
            selector_id="model_selector",
            metrics_id="global_metrics",
            workflow_id=EVALUATION,
        ),
        _component(
            "continuation",
            "app_custom.widgets.continuation.Continuation",
            run_name=run_name(name, job),
            num_rounds=job.experiment.training.rounds,
            final_workflow_id=EVALUATION,
            persistor_id="persistor",
            selector_id="model_selector",
            metrics_id="global_metrics",
        ),
        _component(
            "site_watch",
            "app_custom.widgets.site_watch.SiteWatch",
            grace_seconds=5.0,
            idle_seconds=60.0,
        ),
        _component(
            "tensorboard",
            "nvflare.app_opt.tracking.tb.tb_receiver.TBAnalyticsReceiver",
            tb_folder="tb_events",
        ),
    ]


def _component(component_id: str, path: str, **args: Any) -> Config:
    return {"id": component_id, "path": path, "args": args}
