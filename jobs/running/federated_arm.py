"""Run one strategy's job in NVFlare's simulator, as a person would."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app_custom.nvflare_files import final_model_path, metrics_path, personal_model_path
from fedi2i.metric_files import FILE_NAME, read_metrics
from jobs.privacy.catalogue import PRIVACY_JOBS, base_job, description
from jobs.running.arm_outcome import ArmModel, ArmOutcome, bytes_sent
from jobs.running.arm_process import FINISHED, ArmProcess, run_process
from jobs.running.hostile.arm import hostile_process
from jobs.writing.export import export_job
from jobs.writing.federation import FederatedExperiment, with_strategy
from jobs.writing.job_folder import run_name
from jobs.writing.workspace import prepare_workspace
from lightning_modules.strategies.interface import SiteRule

WORKSPACES = "workspaces"
"""In the run folder; holds the simulator's workspace of every federated arm."""
_SHOWN = ("global model after", "privacy: ", "continuing an interrupted", "ERROR", "refused")
"""Lines of the simulator that have these words are shown on the console."""


@dataclass(frozen=True)
class FederatedArm:
    """A strategy's job on some data.

    Attributes:
        job: experiment and federation, whatever its strategy.
        name: a committed job, of a strategy alone or with a privacy mechanism.
        data: folder that holds one prepared folder per site.
        data_key: changes with the data.
        out: run folder.
        settings: settings of the strategy that differ from the job's.
        called: the arm's name, if it is not the strategy's with the settings that differ.
    """

    job: FederatedExperiment
    name: str
    data: Path
    data_key: str
    out: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    called: str = ""

    @property
    def arm(self) -> str:
        """The arm's name."""
        parts = [f"{key}={value:g}" for key, value in self.settings.items()]
        return self.called or "-".join([self.name, *parts])

    def run(self) -> ArmOutcome:
        """Export the job, run it unless it has finished before, and say what came of it.

        Raises:
            UserError: the strategy does not fit the federation, or the run failed.
        """
        job = with_strategy(self.job, self.name, self.settings)
        if job.federation.hostile:
            return self._run_hostile(job)
        export_job(self.arm, job, self._folder)
        workspace = self._workspace
        prepare_workspace(workspace, {job.experiment.data.dataset: self.data})
        seconds = run_process(self.process(), self.out / FINISHED)
        return ArmOutcome(
            name=self.arm,
            models=_models(self.name, job, workspace),
            metrics=metrics_path(workspace),
            seconds=seconds,
            rounds=job.experiment.training.rounds,
            steps=_steps(job),
            bytes_sent=bytes_sent(read_metrics(metrics_path(workspace))),
            note=_note(job.experiment.strategy.record.site),
            job=base_job(self.name),
            privacy=simulated_privacy(job),
        )

    def _run_hostile(self, job: FederatedExperiment) -> ArmOutcome:
        """Train in one process: no job has hostile sites."""
        process = self.process()
        seconds = run_process(process, self.out / FINISHED)
        return ArmOutcome(
            name=self.arm,
            models=(ArmModel(self.name, _label(self.name), process.produces),),
            metrics=process.produces.with_name(FILE_NAME),
            seconds=seconds,
            rounds=job.experiment.training.rounds,
            steps=_steps(job),
            bytes_sent=0,
            note=f"hostile: {', '.join(sorted(job.federation.hostile))}; trained in one process, "
            "in which no bytes travel",
            job=base_job(self.name),
        )

    def process(self) -> ArmProcess:
        """The simulator on the arm's job, or the one process of an arm with hostile sites.

        Raises:
            UserError: the strategy does not fit the federation.
        """
        job = with_strategy(self.job, self.name, self.settings)
        if job.federation.hostile:
            return hostile_process(self.arm, job, self.data, self.data_key, self.out)
        nvflare = str(Path(sys.executable).with_name("nvflare"))
        folder, workspace = str(self._folder), str(self._workspace)
        threads = str(len(job.federation.sites))
        return ArmProcess(
            name=self.arm,
            command=(nvflare, "simulator", folder, "-w", workspace, "-t", threads),
            log=self.out / "logs" / f"{self.arm}.log",
            produces=final_model_path(self._workspace),
            key=f"{run_name(self.arm, job)}/{self.data_key}",
            show=_SHOWN,
        )

    @property
    def _folder(self) -> Path:
        return self.out / "jobs" / self.arm

    @property
    def _workspace(self) -> Path:
        return self.out / WORKSPACES / self.arm


@dataclass(frozen=True)
class FedAvgVariant(ABC):
    """An arm that is FedAvg trained otherwise; its outcome is told under a name of its own.

    Attributes:
        federated: the arm in the simulator.
    """

    federated: FederatedArm

    @property
    def arm(self) -> str:
        """The arm's name."""
        return self.federated.arm

    def process(self) -> ArmProcess:
        """The simulator on the arm's job."""
        return self.federated.process()

    def run(self) -> ArmOutcome:
        """Train it unless it has finished before.

        Raises:
            UserError: it failed.
        """
        return self.told(self.federated.run())

    @abstractmethod
    def told(self, outcome: ArmOutcome) -> ArmOutcome:
        """FedAvg's outcome as this arm's."""


def _steps(job: FederatedExperiment) -> int:
    """Optimizer steps of each network, over all sites and rounds."""
    training, federation = job.experiment.training, job.federation
    return federation.participation.site_steps(
        federation.sites,
        federation.needed,
        job.experiment.seed,
        training.rounds,
        training.steps,
    )


def simulated_privacy(job: FederatedExperiment) -> dict[str, Any]:
    """What a record says of a job's mechanism, whose ledgers belong to a simulation."""
    said = description(job)
    return {**said, "simulated": True} if said else {}


def _note(rule: SiteRule) -> str:
    if rule.local_parts is not None:
        return f"each site's own model: the server's final one with {rule.local_text}"
    if rule.personal_term is not None:
        return "the server's final model, and each site's personal one"
    return "the final model of the server"


def _label(name: str) -> str:
    return PRIVACY_JOBS[name].label if name in PRIVACY_JOBS else base_job(name).label


def _models(name: str, job: FederatedExperiment, workspace: Path) -> tuple[ArmModel, ...]:
    """The server's model, unless it is incomplete, and the sites' own, where they have any."""
    label, rule = _label(name), job.experiment.strategy.record.site
    whole = ArmModel(name, label, final_model_path(workspace))
    if not rule.has_personal_models:
        return (whole,)
    family = f"{name}_personal" if rule.personal_term is not None else name
    personal = tuple(
        ArmModel(
            f"{name}@{site}",
            f"{label} (personal)",
            personal_model_path(workspace, site),
            family,
            site,
        )
        for site in job.federation.sites
    )
    if rule.personal_term is not None:
        return (ArmModel(name, f"{label} (global)", whole.path), *personal)
    return personal
