"""The baselines that are trained: local-only, centralised on all data pooled, and regression.

Those that need no network stand in ``lightning_modules.evaluation.baselines``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from fedi2i.cores import available_cores
from jobs.running.arm_outcome import ArmModel, ArmOutcome
from jobs.running.arm_process import ArmProcess, run_process
from jobs.running.federated_arm import FederatedArm
from jobs.writing.federation import FederatedExperiment
from jobs.writing.job_folder import run_name
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.model_networks import MODELS

REGRESSION = "regression"


@dataclass(frozen=True)
class BaselineArms:
    """Baselines of one experiment without communication.

    Attributes:
        job: experiment and federation.
        data: folder that holds one prepared folder per site.
        data_key: changes with the data.
        out: run folder; holds ``experiment.yaml``.
        at_once: training processes at the same time; by default the number of cores.
    """

    job: FederatedExperiment
    data: Path
    data_key: str
    out: Path
    at_once: int | None

    def run(self) -> list[ArmOutcome]:
        """Centralised beside the local-only runs: together they fill the cores evenly."""
        sites = self.job.federation.sites
        arms = {"centralised": sites} | {f"local-{site}": (site,) for site in sites}
        with ThreadPoolExecutor(max(1, self.at_once or available_cores())) as pool:
            futures = [pool.submit(self._run, name, members) for name, members in arms.items()]
            return [future.result() for future in futures]

    def _run(self, name: str, sites: Sequence[str]) -> ArmOutcome:
        out = self.out / "arms" / name
        data = [part for site in sites for part in ("--data", str(self.data / site))]
        experiment = ("--experiment", str(self.out / "experiment.yaml"))
        command = (sys.executable, "-m", "fedi2i", "train", *data, *experiment)
        process = ArmProcess(
            name=name,
            command=(*command, "--out", str(out)),
            log=self.out / "logs" / f"{name}.log",
            produces=out / "model.pt",
            key=f"{run_name(name, self.job)}/{self.data_key}",
            show=("error:",),
        )
        training = self.job.experiment.training
        label = "Centralised" if name == "centralised" else f"Local: {sites[0]}"
        return ArmOutcome(
            name=name,
            models=(ArmModel(name, label, out / "model.pt"),),
            metrics=out / "metrics.csv",
            seconds=run_process(process, self.out / "finished"),
            rounds=training.rounds,
            steps=training.rounds * training.steps * len(sites),
            bytes_sent=0,
            note="no communication",
        )


def regression_arm(
    job: FederatedExperiment, data: Path, data_key: str, out: Path
) -> ArmOutcome | None:
    """Run FedAvg with the same generator and the L1 term alone: the model without its adversary.

    Seed, first weights of the generator, order of slices and number of steps are FedAvg's.

    Returns:
        None for an experiment whose model has no discriminator to leave out, or trains without
        pairs, which an L1 term needs.
    """
    described = MODELS[job.experiment.model.name]
    if not described.paired or "discriminator" not in described.roles.values():
        return None
    values = experiment_values(job.experiment)
    values["model"]["name"], values["sharing"] = REGRESSION, "generator"
    experiment = experiment_from(values, f"arm '{REGRESSION}'")
    changed = FederatedExperiment(job.federation, experiment)
    outcome = FederatedArm(changed, "fedavg", data, data_key, out, called=REGRESSION).run()
    model = replace(outcome.models[0], name=REGRESSION, label="Regression (L1 alone)")
    note = "FedAvg with the same generator and the L1 term alone"
    return replace(outcome, models=(model,), note=note, job=None)
