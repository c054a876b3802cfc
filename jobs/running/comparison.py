"""Run every arm of one experiment, evaluate all models alike, and write a run folder.

Each arm is a command that a person could type; the commands are printed. An arm whose settings and
data have not changed since it finished is not run again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf

from fedi2i.cores import available_cores
from fedi2i.errors import ConfigError
from fedi2i.files import write_text
from jobs.running.arm_outcome import ArmOutcome
from jobs.running.arm_process import ArmProcess, run_process
from jobs.running.baseline_arms import BaselineArms, regression_arm
from jobs.running.federated_arm import WORKSPACES, FederatedArm
from jobs.running.prepared_data import key_of, prepared_manifests
from jobs.running.run_record import PrimaryOutcome, write_curves, write_run_record
from jobs.running.strategies_table import strategies_text, strategy_line, write_strategies
from jobs.writing.federation import FederatedExperiment, with_strategy
from jobs.writing.job_folder import run_name
from jobs.writing.workspace import RELAXED_LIMITS
from lightning_modules.configuration import experiment_values
from lightning_modules.metrics.presets.catalogue import PRESETS


@dataclass(frozen=True)
class Comparison:
    """What to compare.

    Attributes:
        job: experiment and federation.
        data: folder that holds one prepared folder per site.
        out: run folder.
        strategies: federated strategies to run.
        at_once: training processes at the same time; by default the number of cores.
        title: heading of the report.
        primary: the primary outcome, named before anything is run.
        regression: whether the arm ``regression`` is run.
        design: digest of the study's design, where the comparison belongs to a study.
    """

    job: FederatedExperiment
    data: Path
    out: Path
    strategies: tuple[str, ...]
    at_once: int | None
    title: str
    primary: PrimaryOutcome = field(default_factory=PrimaryOutcome)
    regression: bool = True
    design: str = ""


def run_comparison(comparison: Comparison) -> None:
    """Run, evaluate and record. Progress goes to the console, details to ``<out>/logs``.

    Raises:
        UserError: data or settings that cannot be used, or an arm that failed.
    """
    _check_primary(comparison)
    for strategy in comparison.strategies:
        with_strategy(comparison.job, strategy)  # a misspelt one ends the run before it starts
    manifests = prepared_manifests(comparison.job, comparison.data)
    data_key = key_of(manifests)
    write_text(
        comparison.out / "experiment.yaml",
        OmegaConf.to_yaml(OmegaConf.create(experiment_values(comparison.job.experiment))),
    )
    job, data, out = comparison.job, comparison.data, comparison.out
    print(f"workspaces in {out / WORKSPACES}: {RELAXED_LIMITS}", flush=True)
    federated = [
        FederatedArm(job, name, data, data_key, out).run() for name in comparison.strategies
    ]
    lines = [strategy_line(arm) for arm in federated]
    write_strategies(out, lines)
    regression = _regression(comparison, data_key)
    baselines = BaselineArms(job, data, data_key, out, comparison.at_once).run()
    outcomes = [*federated, *regression, *baselines]
    _evaluate(comparison, outcomes, data_key)
    write_curves(out, outcomes)
    write_run_record(
        out, comparison.title, job, manifests, outcomes, comparison.primary, comparison.design
    )
    print(strategies_text(lines))


def _check_primary(comparison: Comparison) -> None:
    preset = PRESETS[comparison.job.experiment.preset]
    if comparison.primary.metric not in preset.metrics:
        raise ConfigError(
            f"--primary-metric {comparison.primary.metric}: preset '{preset.name}' does not "
            f"measure it; name one of {', '.join(preset.metrics)}"
        )


def _regression(comparison: Comparison, data_key: str) -> list[ArmOutcome]:
    if not comparison.regression:
        return []
    arm = regression_arm(comparison.job, comparison.data, data_key, comparison.out)
    if arm is None:
        name = comparison.job.experiment.model.name
        print(f"no arm 'regression': model '{name}' has no pairs or no adversary to leave out")
    return [arm] if arm else []


def _evaluate(comparison: Comparison, outcomes: Sequence[ArmOutcome], data_key: str) -> None:
    federation = comparison.job.federation
    sites = (*federation.sites, *federation.unseen)
    trained_models = [model for arm in outcomes for model in arm.models]
    models = [part for m in trained_models for part in ("--model", f"{m.name}={m.path}")]
    data = [part for site in sites for part in ("--data", str(comparison.data / site))]
    data += [part for site in federation.unseen for part in ("--unseen", site)]
    trained = "/".join(f"{m.name}:{m.path.stat().st_mtime_ns}" for m in trained_models)
    process = ArmProcess(
        name="evaluation",
        command=(
            sys.executable,
            "-m",
            "fedi2i",
            "evaluate",
            *models,
            *data,
            "--experiment",
            str(comparison.out / "experiment.yaml"),
            "--out",
            str(comparison.out),
            "--threads",
            str(available_cores()),
        ),
        log=comparison.out / "logs" / "evaluation.log",
        produces=comparison.out / "results.csv",
        key=f"{trained}/{run_name('evaluation', comparison.job)}/{data_key}/all of an unseen site",
        show=("error:",),
    )
    run_process(process, comparison.out / "finished")
