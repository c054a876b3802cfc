"""A star: the server sends the model to all sites and combines their answers."""

from __future__ import annotations

from jobs.writing.federation import FederatedExperiment
from jobs.writing.topologies import parts
from jobs.writing.topologies.parts import Config, ServerSide, component


def server(run: str, job: FederatedExperiment) -> ServerSide:
    """The server's side.

    Args:
        run: names the run for its continuation.
        job: the experiment and its federation.
    """
    return ServerSide(
        components=[
            parts.persistor(job),
            *parts.initial_model(job),
            component(
                "shareable_generator",
                "app_custom.server.outgoing_model.StrategyModelGenerator",
                aggregator_id="aggregator",
            ),
            parts.aggregator(job),
            parts.final_model_locator(),
            # Widgets hear events in this order: numbers first, then who compares, then who saves.
            component(
                "global_metrics",
                "app_custom.server.global_metrics.GlobalMetrics",
                aggregator_id="aggregator",
                **parts.counted_compression(job),
            ),
            parts.best_model(),
            component(
                "continuation",
                "app_custom.checkpoints.continuation.Continuation",
                run_name=run,
                num_rounds=job.experiment.training.rounds,
                final_workflow_id=parts.EVALUATION,
                persistor_id="persistor",
                selector_id="best_model",
                metrics_id="global_metrics",
                aggregator_id="aggregator",
            ),
            *parts.watch_and_curves(),
            # Last, as writing takes time: in the simulator the sites' processes end meanwhile, and
            # SiteWatch must have looked whether they were there to the end.
            parts.translation_models(run, job, selector_id="best_model"),
        ],
        workflows=[_scatter_and_gather(job), parts.final_evaluation(job)],
    )


def _scatter_and_gather(job: FederatedExperiment) -> Config:
    planned = _planned_absence(job)
    return component(
        "scatter_and_gather",
        "app_custom.server.planned_rounds.PlannedRounds"
        if planned
        else "nvflare.app_common.workflows.scatter_and_gather.ScatterAndGather",
        min_clients=job.federation.needed,
        num_rounds=job.experiment.training.rounds,
        start_round=0,
        # Only matters with fewer needed sites than sites: how long to wait for the rest.
        wait_time_after_min_received=60,
        task_check_period=0.1,
        aggregator_id="aggregator",
        persistor_id="persistor",
        shareable_generator_id="shareable_generator",
        train_task_name="train",
        train_timeout=job.federation.round_timeout,
        **planned,
    )


def _planned_absence(job: FederatedExperiment) -> Config:
    missing = job.federation.participation.missing
    return {"missing": missing, "seed": job.experiment.seed} if missing else {}
