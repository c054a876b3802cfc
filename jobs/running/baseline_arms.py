"""The baselines that are trained: local-only, centralised on all data pooled, and regression.

Those that need no network stand in ``lightning_modules.evaluation.baselines``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.running.arm_outcome import ArmModel, ArmOutcome
from jobs.running.arm_process import FINISHED, ArmProcess, run_process
from jobs.running.federated_arm import FedAvgVariant, FederatedArm
from jobs.writing.federation import FederatedExperiment
from jobs.writing.job_folder import run_name
from lightning_modules.configuration import experiment_from, experiment_values

CENTRALISED = "centralised"
ENSEMBLE = "ensemble"
REGRESSION = "regression"
LOCAL_PREFIX = "local-"


@dataclass(frozen=True)
class ArmAlone:
    """An arm without communication: local-only at one site, or centralised on several sites' data.

    Attributes:
        arm: its name.
        sites: whose data it is trained on.
        job: experiment and federation.
        data: folder that holds one prepared folder per site.
        data_key: changes with the data.
        out: run folder; holds ``experiment.yaml``.
    """

    arm: str
    sites: tuple[str, ...]
    job: FederatedExperiment
    data: Path
    data_key: str
    out: Path

    def process(self) -> ArmProcess:
        """``fedi2i train`` on the data of the arm's sites."""
        data = [part for site in self.sites for part in ("--data", str(self.data / site))]
        experiment = ("--experiment", str(self.out / "experiment.yaml"))
        command = (sys.executable, "-m", "fedi2i", "train", *data, *experiment)
        return ArmProcess(
            name=self.arm,
            command=(*command, "--out", str(self._folder)),
            log=self.out / "logs" / f"{self.arm}.log",
            produces=self._folder / "model.pt",
            key=f"{run_name(self.arm, self.job)}/{self.data_key}",
            show=("error:",),
        )

    def run(self) -> ArmOutcome:
        """Train it unless it has finished before.

        Raises:
            UserError: it failed.
        """
        training, process = self.job.experiment.training, self.process()
        label = "Centralised" if self.arm == CENTRALISED else f"Local: {self.sites[0]}"
        return ArmOutcome(
            name=self.arm,
            models=(ArmModel(self.arm, label, process.produces),),
            metrics=self._folder / "metrics.csv",
            seconds=run_process(process, self.out / FINISHED),
            rounds=training.rounds,
            steps=training.rounds * training.steps * len(self.sites),
            bytes_sent=0,
            note="no communication",
        )

    @property
    def _folder(self) -> Path:
        return self.out / "arms" / self.arm


def ensemble_of(outcomes: Sequence[ArmOutcome]) -> ArmOutcome:
    """The mean of the local-only models' outputs: it trains nothing, and costs what they cost.

    Args:
        outcomes: of the local-only arms.
    """
    members = tuple(arm.name for arm in outcomes)
    return ArmOutcome(
        name=ENSEMBLE,
        models=(ArmModel(ENSEMBLE, "Ensemble of the local models", members=members),),
        metrics=None,
        seconds=sum(arm.seconds for arm in outcomes),
        rounds=outcomes[0].rounds,
        steps=sum(arm.steps for arm in outcomes),
        bytes_sent=0,
        note="the mean of the local models' outputs; whoever uses it holds every site's model",
    )


def arms_alone(
    job: FederatedExperiment, data: Path, data_key: str, out: Path
) -> tuple[ArmAlone, ...]:
    """The centralised arm, and after it a local-only one for every site."""
    sites = job.federation.sites
    arms = {CENTRALISED: sites} | {f"{LOCAL_PREFIX}{site}": (site,) for site in sites}
    return tuple(ArmAlone(name, own, job, data, data_key, out) for name, own in arms.items())


class RegressionArm(FedAvgVariant):
    """FedAvg with the same generator and the L1 term alone: the model without its adversary."""

    def told(self, outcome: ArmOutcome) -> ArmOutcome:
        """One model under the name of the baseline."""
        model = replace(outcome.models[0], name=REGRESSION, label="Regression (L1 alone)")
        note = "FedAvg with the same generator and the L1 term alone"
        return replace(outcome, models=(model,), note=note, job=None)


def regression_arm(
    job: FederatedExperiment, data: Path, data_key: str, out: Path
) -> RegressionArm | None:
    """The arm ``regression``; seed, generator's first weights, slices and steps are FedAvg's.

    Returns:
        None for an experiment whose model has no discriminator to leave out, trains without pairs,
        which an L1 term needs, or is a lab's own.
    """
    described = job.experiment.model.described
    if job.experiment.model.module.is_own:
        return None
    if not described.paired or "discriminator" not in described.roles.values():
        return None
    values = experiment_values(job.experiment)
    values["model"]["name"], values["sharing"] = REGRESSION, "generator"
    experiment = experiment_from(values, f"arm '{REGRESSION}'")
    changed = FederatedExperiment(job.federation, experiment)
    return RegressionArm(FederatedArm(changed, "fedavg", data, data_key, out, called=REGRESSION))
