"""Patient-level differential privacy (DP-SGD): gradients are clipped by patient and noised."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from jobs.privacy.interface import PrivacyMechanism, refuse_exceeded_budget
from lightning_modules.privacy.accountant import epsilon
from lightning_modules.privacy.patient_settings import PatientNoise, check_experiment

if TYPE_CHECKING:
    from jobs.writing.federation import FederatedExperiment
    from jobs.writing.topologies.parts import SiteSide
    from lightning_modules.configuration import ExperimentConfig

_EXECUTOR = "app_custom.executor.translation_executor.TranslationExecutor"


def spent(settings: PatientNoise, experiment: ExperimentConfig, rounds: int) -> float:
    """The epsilon of a patient at any site: it hangs on no number of a site's."""
    steps = rounds * experiment.training.steps
    return epsilon([settings.release(experiment.model.name, steps)], settings.delta)


def _refuse(job: FederatedExperiment, where: str) -> None:
    settings, training = job.privacy.settings, job.experiment.training
    check_experiment(job.experiment, where)
    needed = spent(settings, job.experiment, training.rounds)
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
    epsilon=spent,
    unit="one patient of a site",
    relation="added or removed",
    federation={"min_sites": 3},  # one site's spent budget must not end it for the others
    site=_site,
    learner=_learner,
)
