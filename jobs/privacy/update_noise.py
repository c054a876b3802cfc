"""Update-level differential privacy: a site's update is clipped and noised before it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedi2i.typed_config import number, switch
from jobs.privacy.interface import (
    GENERATOR_ONLY,
    PrivacyMechanism,
    refuse_batch_norm,
    refuse_exceeded_budget,
    refuse_independent_start,
)
from lightning_modules.model_networks import shared_networks
from lightning_modules.privacy.accountant import Release, epsilon

if TYPE_CHECKING:
    from jobs.writing.federation import FederatedExperiment
    from lightning_modules.configuration import ExperimentConfig
    from lightning_modules.privacy.update_noise import Noise, State

SENSITIVITY = 2.0
"""In clipping norms: sites are known to take part, so their data are replaced, not removed."""


@dataclass(frozen=True)
class UpdateNoise:
    """Settings of update-level differential privacy.

    A site's own policy counts before it: where the policy has the mechanism, the job's does
    nothing there.

    Attributes:
        noise_multiplier: standard deviation of the noise as a multiple of the clipping norm.
        clipping_generator: norm to which the update of each generator is clipped.
        clipping_discriminator: the same for discriminators.
        epsilon: the most that a site spends; a job that would need more is refused.
        delta: the probability with which the guarantee may fail.
        share_metrics: whether validation metrics leave, outside the guarantee.
    """

    noise_multiplier: float = number(0.01, above=True, meaning="noise as a multiple of clipping")
    clipping_generator: float = number(7.0, above=True, meaning="norm of a generator's update")
    clipping_discriminator: float = number(1.6, above=True, meaning="the same, discriminators")
    epsilon: float = number(1e6, above=True, meaning="the most that a site spends")
    delta: float = number(1e-5, high=1.0, above=True, meaning="how often the guarantee may fail")
    share_metrics: bool = switch(True, meaning="validation metrics leave, outside the guarantee")


def releases(settings: UpdateNoise, experiment: ExperimentConfig, rounds: int) -> list[Release]:
    """Of a site: every shared network is a release of its own in every round."""
    networks = shared_networks(experiment.model.described, experiment.sharing)
    return [Release(settings.noise_multiplier, SENSITIVITY, count=rounds * len(networks))]


def clipping(settings: UpdateNoise, experiment: ExperimentConfig) -> dict[str, float]:
    """The clipping norm of every shared network."""
    roles = experiment.model.described.roles
    norms = {
        "generator": settings.clipping_generator,
        "discriminator": settings.clipping_discriminator,
    }
    networks = shared_networks(experiment.model.described, experiment.sharing)
    return {name: norms[roles[name]] for name in networks}


def _refuse(job: FederatedExperiment, where: str) -> None:
    settings, rounds = job.privacy.settings, job.experiment.training.rounds
    refuse_independent_start(job, where)
    refuse_batch_norm(job, where)
    needed = epsilon(releases(settings, job.experiment, rounds), settings.delta)
    refuse_exceeded_budget(settings, needed, f"{rounds} rounds", "more noise, fewer rounds", where)


def _budget(run: str, job: FederatedExperiment) -> list[dict[str, Any]]:
    settings = job.privacy.settings
    arguments = {
        "clipping": clipping(settings, job.experiment),
        "noise_multiplier": settings.noise_multiplier,
        "epsilon": settings.epsilon,
        "delta": settings.delta,
        "share_metrics": settings.share_metrics,
        "run": run,
    }
    return [{"path": "app_custom.privacy.update_filters.SpendBudget", "args": arguments}]


def _noise(_: str, __: FederatedExperiment) -> list[dict[str, Any]]:
    return [{"path": "app_custom.privacy.update_filters.AddNoise", "args": {}}]


def _released(
    settings: UpdateNoise,
    experiment: ExperimentConfig,
    received: State,
    trained: State,
    noise: Noise,
) -> State:
    # Imported here, as jobs are written without the arithmetic.
    from lightning_modules.privacy.update_noise import noised_update

    norms = clipping(settings, experiment)
    return noised_update(received, trained, norms, settings.noise_multiplier, noise).state


MECHANISM = PrivacyMechanism(
    name="update_noise",
    label="noised updates",
    ending="dp",
    promise="epsilon for all data of a site against whoever has its updates",
    admitted_by="update_level_dp",
    settings=UpdateNoise,
    refuse=_refuse,
    releases=releases,
    unit="everything that a site holds",
    relation="replaced by other data",
    federation={"min_sites": 3},  # one site's spent budget must not end it for the others
    experiment=GENERATOR_ONLY,
    arriving=_budget,
    leaving=_noise,
    released=_released,
)
