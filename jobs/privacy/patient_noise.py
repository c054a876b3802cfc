"""Patient-level differential privacy (DP-SGD): gradients are clipped by patient and noised."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fedi2i.errors import ConfigError
from jobs.privacy.interface import GENERATOR_ONLY, PrivacyMechanism, refuse_exceeded_budget
from lightning_modules.privacy.accountant import Release, epsilon
from lightning_modules.privacy.patient_settings import PatientNoise, check_experiment

if TYPE_CHECKING:
    from jobs.writing.federation import FederatedExperiment
    from jobs.writing.topologies.parts import SiteSide
    from lightning_modules.configuration import ExperimentConfig

_EXECUTOR = "app_custom.executor.translation_executor.TranslationExecutor"


def releases(settings: PatientNoise, experiment: ExperimentConfig, rounds: int) -> list[Release]:
    """Of a patient at any site: they hang on no number of a site's."""
    return [settings.release(experiment.model.name, rounds * experiment.training.steps)]


def _refuse(job: FederatedExperiment, where: str) -> None:
    settings, training = job.privacy.settings, job.experiment.training
    check_experiment(job.experiment, where)
    if job.federation.participation.stragglers:
        raise ConfigError(
            f"{where}: federation.participation names stragglers, but privacy.mechanism "
            "'patient_noise' accounts for the same number of steps at every site; leave them out"
        )
    needed = epsilon(releases(settings, job.experiment, training.rounds), settings.delta)
    work = f"{training.rounds} rounds of {training.steps} steps"
    remedy = "more noise, a smaller sampling_rate, fewer steps"
    refuse_exceeded_budget(settings, needed, work, remedy, where)


def _site(side: SiteSide, job: FederatedExperiment) -> SiteSide:
    noise = dataclasses.asdict(job.privacy.settings)
    executors = []
    for entry in side.executors:
        executor = entry["executor"]
        if executor["path"] == _EXECUTOR:
            executor = {**executor, "args": {**executor["args"], "patient_noise": noise}}
        executors.append({**entry, "executor": executor})
    return dataclasses.replace(side, executors=executors)


def _learner(settings: PatientNoise) -> dict[str, PatientNoise]:
    return {"patient_noise": settings}


MECHANISM = PrivacyMechanism(
    name="patient_noise",
    label="patient-level DP",
    ending="patient_dp",
    promise="epsilon for adding or removing one patient of a site, against whoever has its models",
    admitted_by="patient_level_dp",
    settings=PatientNoise,
    refuse=_refuse,
    releases=releases,
    unit="one patient of a site",
    relation="added or removed",
    federation={"min_sites": 3},  # one site's spent budget must not end it for the others
    experiment=GENERATOR_ONLY,
    site=_site,
    learner=_learner,
)
