"""A ring: the server passes the model from site to site, in the order the job names them."""

from __future__ import annotations

from jobs.writing.federation import FederatedExperiment
from jobs.writing.topologies import parts
from jobs.writing.topologies.parts import Config, ServerSide, component

TRAINING = "cyclic"


def server(run: str, job: FederatedExperiment) -> ServerSide:
    """The server's side.

    No best model is kept: in a round each site measures another model, so there is no mean to
    compare by until the final evaluation.

    Args:
        run: names the run for its continuation.
        job: the experiment and its federation.
    """
    rounds = job.experiment.training.rounds
    return ServerSide(
        components=[
            parts.persistor(job),
            *parts.initial_model(job),
            component(
                "shareable_generator",
                "app_custom.cyclic.RelayedModelGenerator",
                partial_networks=parts.may_leave_out_networks(job),
            ),
            parts.final_model_locator(),
            component(
                "relay_rounds",
                "app_custom.cyclic.RelayRounds",
                workflow_id=TRAINING,
                num_rounds=rounds,
            ),
            component(
                "global_metrics",
                "app_custom.server.global_metrics.GlobalMetrics",
                relay=True,
                **parts.counted_compression(job),
            ),
            component(
                "continuation",
                "app_custom.checkpoints.continuation.Continuation",
                run_name=run,
                num_rounds=rounds,
                final_workflow_id=parts.EVALUATION,
                persistor_id="persistor",
                metrics_id="global_metrics",
            ),
            *parts.watch_and_curves(),
            # Last, as writing takes time: in the simulator the sites' processes end meanwhile, and
            # SiteWatch must have looked whether they were there to the end.
            parts.translation_models(run, job),
        ],
        workflows=[_relay(job), parts.final_evaluation(job)],
    )


def _relay(job: FederatedExperiment) -> Config:
    return component(
        TRAINING,
        "nvflare.app_common.workflows.cyclic_ctl.CyclicController",
        num_rounds=job.experiment.training.rounds,
        # With a time limit NVFlare skips a site that is late; 0 waits for it, and SiteWatch knows
        # whether it is still there.
        task_assignment_timeout=0,
        task_check_period=0.1,
        persistor_id="persistor",
        shareable_generator_id="shareable_generator",
        task_name="train",
        # Named one by one: NVFlare's FIXED is the order in which sites happen to connect.
        order=list(job.federation.sites),
    )
