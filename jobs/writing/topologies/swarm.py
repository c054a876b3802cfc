"""A swarm: sites send updates to one of them, drawn anew each round; the server only looks on."""

from __future__ import annotations

from app_custom.swarm.final_model import BEST_TASK, FINAL_TASK
from jobs.writing.federation import FederatedExperiment
from jobs.writing.topologies import parts
from jobs.writing.topologies.parts import Config, ServerSide, SiteSide, component

TRAINING = "swarm"
_FROM_SERVER = ["swarm_config", "swarm_start"]
_TO_PEERS = ["swarm_learn", "swarm_report_learn_result", "swarm_report_final_result"]
_FOREVER = 7 * 24 * 3600
"""Seconds. NVFlare's defaults end a swarm whose rounds take long; lost sites are noticed by their
connection."""
_TRANSFER_SECONDS = 600
"""For one model from site to site; NVFlare's default of ten is for small ones."""


def server(run: str, job: FederatedExperiment) -> ServerSide:
    """The server's side. A swarm cannot be continued: the run's name only stands in its models."""
    has_best = job.experiment.training.rounds > 1
    asked = [(BEST_TASK, True)] * has_best + [(FINAL_TASK, False)]
    return ServerSide(
        components=[
            component("all_at_once", "app_custom.swarm.rounds.AllAtOnce"),
            parts.persistor(job),
            parts.model_selector(),
            parts.final_model_locator(),
            component("global_metrics", "app_custom.server.global_metrics.GlobalMetrics"),
            component(
                "swarm_rounds",
                "app_custom.swarm.rounds.SwarmRounds",
                num_rounds=job.experiment.training.rounds,
                task_names=_FROM_SERVER,
                key_metric=parts.KEY_METRIC,
                metrics_id="global_metrics",
                selector_id="model_selector",
            ),
            parts.final_selection(),
            *(
                component(
                    _collector(task), "app_custom.swarm.final_model.CollectedModel", best=best
                )
                for task, best in asked
            ),
            *parts.watch_and_curves(),
            # Last, as writing takes time: in the simulator the sites' processes end meanwhile, and
            # SiteWatch must have looked whether they were there to the end.
            # The server sees no model before the end.
            parts.translation_models(run, job, keep_rounds=0),
        ],
        workflows=[
            _swarm(job),
            *(_collect(task) for task, _ in asked),
            parts.final_evaluation(job),
        ],
    )


def site(run: str, job: FederatedExperiment) -> SiteSide:
    """A site's side: it may be the one that aggregates."""
    models = [BEST_TASK, FINAL_TASK]
    return SiteSide(
        executors=[
            parts.learner(run, job),
            _swarm_member(job),
            parts.executor(models, "app_custom.swarm.final_model.HeldModels"),
        ],
        components=[
            parts.persistor(job),
            component(
                "shareable_generator",
                "nvflare.app_common.shareablegenerators.full_model_shareable_generator."
                "FullModelShareableGenerator",
            ),
            parts.aggregator(job),
            parts.model_selector(),
            component(
                "round_report",
                "app_custom.swarm.round_report.RoundReport",
                starting_site=_starting_site(job),
            ),
            *parts.curves(),
        ],
        task_result_filters=[parts.answers_gate(job, ["train", "validate", *models])],
        task_data_filters=[
            parts.gate(
                job,
                _TO_PEERS,
                "app_custom.gates.allowed_peer_message.AllowedPeerMessage",
                direction="out",
            )
        ],
        # Arrays go inside the messages. NVFlare 2.9.0 encrypts messages between sites end to end,
        # but has large arrays fetched besides, in the clear of the server that passes them on.
        variables={"np_download_chunk_size": 0},
    )


def _starting_site(job: FederatedExperiment) -> str:
    """Sends its initial model to all; every site would draw the same one from the seed."""
    return job.federation.sites[0]


def _swarm(job: FederatedExperiment) -> Config:
    sites = list(job.federation.sites)
    return component(
        TRAINING,
        "nvflare.app_common.ccwf.swarm_server_ctl.SwarmServerController",
        num_rounds=job.experiment.training.rounds,
        participating_clients=sites,
        starting_client=_starting_site(job),
        start_task_timeout=_TRANSFER_SECONDS,
        task_check_period=0.1,
        job_status_check_interval=0.2,
        max_status_report_interval=float(_FOREVER),
        progress_timeout=float(_FOREVER),
        private_p2p=True,
    )


def _swarm_member(job: FederatedExperiment) -> Config:
    return parts.executor(
        [*_FROM_SERVER, *_TO_PEERS],
        "nvflare.app_common.ccwf.swarm_client_ctl.SwarmClientController",
        learn_task_name="train",
        persistor_id="persistor",
        shareable_generator_id="shareable_generator",
        aggregator_id="aggregator",
        learn_task_check_interval=0.1,
        learn_task_ack_timeout=_TRANSFER_SECONDS,
        final_result_ack_timeout=_TRANSFER_SECONDS,
        min_responses_required=job.federation.needed,
        request_to_submit_result_interval=0.2,
    )


def _collect(task: str) -> Config:
    return component(
        f"collect_{task.removeprefix('submit_')}",
        "nvflare.app_common.workflows.broadcast_and_process.BroadcastAndProcess",
        processor=_collector(task),
        task_name=task,
    )


def _collector(task: str) -> str:
    return task.removeprefix("submit_")
