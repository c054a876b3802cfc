"""What the jobs of all topologies are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fedi2i import __version__
from fedi2i.typed_config import as_dict
from jobs.privacy.catalogue import arriving, description, leaving
from jobs.writing.federation import FederatedExperiment
from lightning_modules.configuration import experiment_values
from lightning_modules.sharing.local_parts import sharing_scope
from lightning_modules.strategies.catalogue import strategy_values

Config = dict[str, Any]

KEY_METRIC = "val/psnr"
EVALUATION = "final_evaluation"


@dataclass(frozen=True)
class ServerSide:
    """A topology's part of ``config_fed_server.json``."""

    components: list[Config]
    workflows: list[Config]


@dataclass(frozen=True)
class SiteSide:
    """A topology's part of ``config_fed_client.json``.

    Attributes:
        variables: NVFlare's own, which it reads from the top of the file.
    """

    executors: list[Config]
    components: list[Config]
    task_result_filters: list[Config]
    task_data_filters: list[Config] = field(default_factory=list)
    variables: Config = field(default_factory=dict)


def component(component_id: str, path: str, **args: Any) -> Config:
    """A component, or a workflow, as NVFlare's configurations name it."""
    return {"id": component_id, "path": path, "args": args}


def persistor(job: FederatedExperiment) -> Config:
    """The seeded networks, and the files they are saved to."""
    experiment = job.experiment
    return component(
        "persistor",
        "app_custom.server.model_files.ModelFiles",
        model={
            "path": "lightning_modules.sharing.shared_networks.SharedNetworks",
            "args": {
                "model": as_dict(experiment.model),
                "sharing": experiment.sharing,
                "seed": experiment.seed,
                "local": list(sharing_scope(experiment).local),
                "size": list(experiment.data.preparation.size),
            },
        },
    )


def may_leave_out_networks(job: FederatedExperiment) -> bool:
    """Whether a site may have nothing to train some networks of the model on."""
    return not job.experiment.model.described.paired


def aggregator(job: FederatedExperiment) -> Config:
    """Collects the sites' updates and has the strategy combine them."""
    experiment = job.experiment
    return component(
        "aggregator",
        "app_custom.aggregation.aggregator.Aggregator",
        strategy=strategy_values(experiment.strategy),
        min_sites=job.federation.needed,
        partial_networks=may_leave_out_networks(job),
        sites_keep_optimizers=experiment.training.optimizer_state == "keep",
    )


def initial_model(job: FederatedExperiment) -> list[Config]:
    """Starts the run from a model file, where the federation names one."""
    name = job.federation.initial_model
    path = "app_custom.server.model_files.InitialModel"
    return [component("initial_model", path, name=name)] if name else []


def model_selector() -> Config:
    """In a swarm: compares models by their median metric; with ``final_selection`` at the end."""
    return component(
        "model_selector",
        "app_custom.server.best_model.SwarmBestModel",
        key_metric=KEY_METRIC,
    )


def final_selection() -> Config:
    """Lets the final model compete with the best of earlier rounds."""
    return component(
        "final_selection",
        "app_custom.swarm.final_model.FinalSelection",
        key_metric=KEY_METRIC,
        selector_id="model_selector",
        metrics_id="global_metrics",
        workflow_id=EVALUATION,
    )


def best_model() -> Config:
    """Compares global models over the sites that measured both."""
    return component(
        "best_model",
        "app_custom.server.best_model.BestModel",
        key_metric=KEY_METRIC,
        metrics_id="global_metrics",
        workflow_id=EVALUATION,
    )


def translation_models(run: str, job: FederatedExperiment, **args: Any) -> Config:
    """Writes the files that ``fedi2i translate`` takes; it comes after what saves models."""
    return component(
        "translation_models",
        "app_custom.server.translation_models.TranslationModels",
        settings=experiment_values(job.experiment),
        run_name=run,
        privacy=description(job),
        **args,
    )


def final_model_locator() -> Config:
    """Names the model that the final evaluation sends out."""
    return component("final_model_locator", "app_custom.server.outgoing_model.FinalModelLocator")


def watch_and_curves() -> list[Config]:
    """Notice lost sites; receive curves for TensorBoard."""
    return [
        component(
            "site_watch",
            "app_custom.server.site_watch.SiteWatch",
            grace_seconds=5.0,
            idle_seconds=60.0,
        ),
        component(
            "tensorboard",
            "nvflare.app_opt.tracking.tb.tb_receiver.TBAnalyticsReceiver",
            tb_folder="tb_events",
        ),
    ]


def final_evaluation(job: FederatedExperiment, locator: str = "final_model_locator") -> Config:
    """The workflow that has every site validate a model, by default the final one.

    A site that also trains its own arm then takes as long as all its rounds.
    """
    alone = job.study is not None and job.study.local
    stretches = job.experiment.training.rounds + 1 if alone else 1
    return component(
        EVALUATION,
        "nvflare.app_common.workflows.global_model_eval.GlobalModelEval",
        task_check_period=0.1,
        model_locator_id=locator,
        validation_task_name="validate",
        validation_timeout=job.federation.round_timeout * stretches,
        # It sends out a copy of the final model, which would go into every result bundle.
        cleanup_models=True,
    )


def learner(
    run: str, job: FederatedExperiment, tasks: Sequence[str] = ("train", "validate")
) -> Config:
    """The executor for training and validation."""
    # All settings, not only what differs from defaults: a site whose installed version has other
    # defaults must not silently train something else.
    settings = experiment_values(job.experiment)
    stragglers = job.federation.participation.stragglers
    return executor(
        tasks,
        "app_custom.executor.translation_executor.TranslationExecutor",
        settings=settings,
        run_name=run,
        release=__version__,
        **({"only_evaluates": True} if job.only_evaluates else {}),
        **({"stragglers": dict(stragglers)} if stragglers else {}),
        **({"study": as_dict(job.study)} if job.study else {}),
    )


def executor(tasks: Sequence[str], path: str, **args: Any) -> Config:
    """Who does which tasks."""
    return {"tasks": list(tasks), "executor": {"path": path, "args": args}}


def gate(job: FederatedExperiment, tasks: Sequence[str], path: str, **chain: Any) -> Config:
    """A filter that lets listed things pass and stops everything else."""
    scope = sharing_scope(job.experiment)
    return {
        "tasks": list(tasks),
        "filters": [
            {
                "path": path,
                "args": {
                    "networks": list(scope.networks),
                    "local": list(scope.local),
                    "arrays": list(job.experiment.strategy.record.site.extras),
                },
            }
        ],
        **chain,
    }


def answers_gate(job: FederatedExperiment, tasks: Sequence[str]) -> Config:
    """The gate for answers to the server."""
    return gate(job, tasks, "app_custom.gates.allowed_update.AllowedUpdate")


def _answers(run: str, job: FederatedExperiment) -> Config:
    """The privacy mechanism, then the gate, which sees what would leave, then compression.

    NVFlare takes one chain for each task.
    """
    chain = answers_gate(job, ["train", "validate"])
    further = [item for smaller in compressing(job) for item in smaller["filters"]]
    return {**chain, "filters": [*leaving(run, job), *chain["filters"], *further]}


def _received(run: str, job: FederatedExperiment) -> list[Config]:
    """Restoring, then the privacy mechanism, which measures from the restored model."""
    restored = [item for chain in restoring(job) for item in chain["filters"]]
    filters = [*restored, *arriving(run, job)]
    return [{"tasks": ["train", "validate"], "filters": filters}] if filters else []


def compressing(job: FederatedExperiment) -> list[Config]:
    """Makes arrays smaller before they travel, where the federation wants it."""
    kind = job.federation.compression
    return (
        []
        if kind == "none"
        else [_filter("app_custom.aggregation.compression_filters.Compress", kind=kind)]
    )


def restoring(job: FederatedExperiment) -> list[Config]:
    """Undoes it where they arrive."""
    none = job.federation.compression == "none"
    return [] if none else [_filter("app_custom.aggregation.compression_filters.Restore")]


def counted_compression(job: FederatedExperiment) -> Config:
    """What the metrics must know to count bytes as they travel."""
    kind = job.federation.compression
    return {} if kind == "none" else {"compression": kind}


def _filter(path: str, **args: Any) -> Config:
    return {"tasks": ["train", "validate"], "filters": [{"path": path, "args": args}]}


def curves() -> list[Config]:
    """Sends curves to the server."""
    return [
        component(
            "curve_sender",
            "nvflare.app_opt.tracking.tb.tb_writer.TBWriter",
            event_type="analytix_log_stats",
        ),
        component(
            "curve_forwarder",
            "app_custom.gates.shared_metrics.SharedCurves",
        ),
    ]


def plain_site(run: str, job: FederatedExperiment) -> SiteSide:
    """A site that answers the server and nobody else."""
    return SiteSide(
        executors=[learner(run, job)],
        components=curves(),
        task_result_filters=[_answers(run, job)],
        task_data_filters=_received(run, job),
    )
