"""The job ``evaluate``: measure a model that the server was given at sites, and train nothing.

It is NVFlare's own evaluation of a server's model (``GlobalModelEval``) with the parts of the other
jobs around it, at the sites that train and at those that never did.
"""

from __future__ import annotations

from dataclasses import replace

from jobs.privacy.catalogue import PrivacyConfig
from jobs.writing.federation import FederatedExperiment
from jobs.writing.topologies import parts
from jobs.writing.topologies.parts import ServerSide, SiteSide, component
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.training.participation import EVERYBODY

EVALUATE = "evaluate"
"""The job's name."""


def evaluation_of(job: FederatedExperiment) -> FederatedExperiment:
    """What is left of a federated experiment when nothing is trained: all sites, one network."""
    values = experiment_values(job.experiment)
    values["strategy"] = {"name": "fedavg"}
    values["sharing"] = job.experiment.model.described.translator
    federation = replace(
        job.federation,
        sites=(*job.federation.sites, *job.federation.unseen),
        unseen=(),
        min_sites=None,
        initial_model=None,
        compression="none",
        participation=EVERYBODY,
        hostile={},
    )
    experiment = experiment_from(values, EVALUATE)
    return FederatedExperiment(federation, experiment, PrivacyConfig(), only_evaluates=True)


def server(run: str, job: FederatedExperiment) -> ServerSide:
    """The server's side."""
    return ServerSide(
        components=[
            component(
                "given_model",
                "app_custom.server.given_model.GivenModel",
                settings=experiment_values(job.experiment),
            ),
            component("global_metrics", "app_custom.server.global_metrics.GlobalMetrics"),
            *parts.watch_and_curves(),
        ],
        workflows=[parts.final_evaluation(job, "given_model")],
    )


def site(run: str, job: FederatedExperiment) -> SiteSide:
    """A site's side: it answers with metrics, and has no task that trains."""
    return SiteSide(
        executors=[parts.learner(run, job, ["validate"])],
        components=parts.curves(),
        task_result_filters=[parts.answers_gate(job, ["validate"])],
    )
