"""Arms that end in a model for every site: FedAvg fine-tuned at it, and FedAvg without it.

Each model is a training of its own; together they are a family, shown as one row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedi2i.errors import ConfigError
from jobs.running.arm_outcome import ArmModel, ArmOutcome
from jobs.running.arm_process import FINISHED, ArmProcess, run_process
from jobs.running.federated_arm import FedAvgVariant, FederatedArm
from jobs.writing.federation import FederatedExperiment
from jobs.writing.job_folder import run_name

FINE_TUNED = "fine-tuned"
LEFT_OUT = "left-out"
FINE_TUNING_FILE = "fine-tuning.yaml"
"""In the run folder: the experiment with one round of the steps of fine-tuning."""


@dataclass(frozen=True)
class FineTunedArm:
    """The final global model of FedAvg, trained on at one site with its own data.

    Attributes:
        site: the site.
        steps: optimizer steps of each network; optimizers begin anew.
        start: the arm whose model it begins with.
    """

    site: str
    steps: int
    start: FederatedArm

    @property
    def arm(self) -> str:
        """The arm's name."""
        return f"{FINE_TUNED}-{self.site}"

    def process(self) -> ArmProcess:
        """``fedi2i train`` at the site, from the finished global model."""
        begun, out = self.start.process(), self.start.out
        command = (sys.executable, "-m", "fedi2i", "train", "--data")
        rest = ("--experiment", str(out / FINE_TUNING_FILE), "--arm", self.arm)
        start = ("--start", str(begun.produces), "--out", str(self._folder))
        return ArmProcess(
            name=self.arm,
            command=(*command, str(self.start.data / self.site), *rest, *start),
            log=out / "logs" / f"{self.arm}.log",
            produces=self._folder / "model.pt",
            key=f"{run_name(self.arm, self.start.job)}/{self.steps} steps after {begun.key}",
            show=("error:",),
        )

    def run(self) -> ArmOutcome:
        """Train it unless it has finished before; FedAvg has finished.

        Raises:
            UserError: it failed.
        """
        process = self.process()
        label = "FedAvg, fine-tuned at the site"
        name = f"{FINE_TUNED}@{self.site}"
        return ArmOutcome(
            name=FINE_TUNED,
            models=(ArmModel(name, label, process.produces, FINE_TUNED, self.site),),
            metrics=None,
            seconds=run_process(process, self.start.out / FINISHED),
            rounds=1,
            steps=self.steps,
            bytes_sent=0,
            note=f"FedAvg's final model after {self.steps} more steps at each site alone",
            does="goes on at each site alone after FedAvg's last round",
        )

    @property
    def _folder(self) -> Path:
        return self.start.out / "arms" / self.arm


@dataclass(frozen=True)
class LeftOutArm(FedAvgVariant):
    """FedAvg on all sites but one, whose patients the model has therefore never met.

    Attributes:
        site: the site that does not train.
    """

    site: str

    def told(self, outcome: ArmOutcome) -> ArmOutcome:
        """One model of the family, measured at the site alone."""
        label, name = "FedAvg without the site", f"{LEFT_OUT}@{self.site}"
        model = ArmModel(name, label, outcome.models[0].path, LEFT_OUT, self.site)
        return replace(
            outcome,
            name=LEFT_OUT,
            models=(model,),
            metrics=None,
            note="for each site FedAvg on all others: none of its patients was trained on",
            job=None,
            does="trains without the site that it is measured at",
        )


def fine_tuned_arms(start: FederatedArm, steps: int) -> tuple[FineTunedArm, ...]:
    """One arm for every site that trains; none for 0 steps."""
    return tuple(FineTunedArm(site, steps, start) for site in start.job.federation.sites if steps)


def left_out_arms(start: FederatedArm) -> tuple[LeftOutArm, ...]:
    """One arm for every site, with the settings of FedAvg on all of them."""
    return tuple(
        LeftOutArm(replace(start, job=_without(start.job, site), called=f"{LEFT_OUT}-{site}"), site)
        for site in start.job.federation.sites
    )


def check_left_out(job: FederatedExperiment, where: str) -> None:
    """Refuse what would leave no federation, or what its epsilon could not be counted for.

    Raises:
        ConfigError: fewer than three sites, or a privacy mechanism.
    """
    if len(job.federation.sites) < 3:
        raise ConfigError(
            f"{where}: leaving one of {len(job.federation.sites)} sites out leaves no federation; "
            "it takes three or more"
        )
    if job.privacy.acts:
        raise ConfigError(
            f"{where}: with privacy.mechanism '{job.privacy.mechanism}' every federation without "
            "a site spends on the same patients, which a run's record does not count; leave one "
            "of the two out"
        )


def joined_families(outcomes: Iterable[ArmOutcome]) -> list[ArmOutcome]:
    """The outcomes, those of one name as one: its models together, its cost that of all."""
    joined: dict[str, ArmOutcome] = {}
    for one in outcomes:
        before = joined.get(one.name)
        joined[one.name] = _together((before, one)) if before else one
    return list(joined.values())


def _together(parts: Sequence[ArmOutcome]) -> ArmOutcome:
    return replace(
        parts[0],
        models=tuple(model for part in parts for model in part.models),
        seconds=sum(part.seconds for part in parts),
        steps=sum(part.steps for part in parts),
        bytes_sent=sum(part.bytes_sent for part in parts),
    )


def _without(job: FederatedExperiment, site: str) -> FederatedExperiment:
    federation = job.federation
    others = tuple(name for name in federation.sites if name != site)
    least = federation.min_sites
    return replace(
        job,
        federation=replace(
            federation,
            sites=others,
            min_sites=None if least is None else min(least, len(others)),
            gpus={name: count for name, count in federation.gpus.items() if name != site},
        ),
    )
