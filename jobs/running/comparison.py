"""Run every arm of one experiment, evaluate all models alike, and write a run folder.

Each arm is a command that a person could type; the commands are printed. An arm whose settings and
data have not changed since it finished is not run again.

A comparison is run whole, or part by part: an arm, or the evaluation of all of them, is a part that
can be run by itself, on any machine that sees the folders. What has been run is known from files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from omegaconf import OmegaConf

from fedi2i.cores import available_cores
from fedi2i.errors import ConfigError
from fedi2i.files import write_text
from jobs.running.arm_outcome import ArmOutcome
from jobs.running.arm_process import FINISHED, ArmProcess, finished_seconds, run_process
from jobs.running.baseline_arms import arms_alone, regression_arm
from jobs.running.federated_arm import WORKSPACES, FederatedArm
from jobs.running.prepared_data import key_of, prepared_manifests
from jobs.running.run_record import PrimaryOutcome, write_curves, write_run_record
from jobs.running.spent_epsilon import RUN_FILE
from jobs.running.strategies_table import strategies_text, strategy_line, write_strategies
from jobs.writing.federation import FederatedExperiment, with_strategy
from jobs.writing.job_folder import run_name
from jobs.writing.workspace import RELAXED_LIMITS
from lightning_modules.configuration import experiment_values
from lightning_modules.metrics.presets.catalogue import PRESETS
from partitions.manifest import SiteManifest

EVALUATION = "evaluation"
"""The part that measures the models of all arms."""


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


class PlannedArm(Protocol):
    """An arm that can be run, and whose process can be asked whether it has been."""

    @property
    def arm(self) -> str:
        """The arm's name."""
        ...

    def process(self) -> ArmProcess:
        """The process that makes its models."""
        ...

    def run(self) -> ArmOutcome:
        """Run it unless it has finished before."""
        ...


@dataclass(frozen=True)
class Plan:
    """The arms of a comparison, in the order of their running.

    Attributes:
        manifests: of all sites.
        one_by_one: arms that fill the machine by themselves: a process for every site.
        beside_each_other: arms of one process each.
    """

    manifests: tuple[SiteManifest, ...]
    one_by_one: tuple[PlannedArm, ...]
    beside_each_other: tuple[PlannedArm, ...]

    @property
    def arms(self) -> tuple[PlannedArm, ...]:
        """All arms."""
        return (*self.one_by_one, *self.beside_each_other)


def run_comparison(comparison: Comparison) -> None:
    """Run, evaluate and record. Progress goes to the console, details to ``<out>/logs``.

    Raises:
        UserError: data or settings that cannot be used, or an arm that failed.
    """
    plan = planned(comparison)
    print(f"workspaces in {comparison.out / WORKSPACES}: {RELAXED_LIMITS}", flush=True)
    outcomes = [arm.run() for arm in plan.one_by_one]
    with ThreadPoolExecutor(max(1, comparison.at_once or available_cores())) as pool:
        # Centralised first: beside it the local-only runs fill the cores evenly.
        futures = [pool.submit(arm.run) for arm in plan.beside_each_other]
        outcomes += [future.result() for future in futures]
    _record(comparison, plan, outcomes)


def planned(comparison: Comparison) -> Plan:
    """The arms of a comparison, once its settings are checked and its data prepared.

    Raises:
        UserError: data or settings that cannot be used.
    """
    _check_primary(comparison)
    for strategy in comparison.strategies:
        with_strategy(comparison.job, strategy)  # a misspelt one ends the run before it starts
    manifests = tuple(prepared_manifests(comparison.job, comparison.data))
    write_text(
        comparison.out / "experiment.yaml",
        OmegaConf.to_yaml(OmegaConf.create(experiment_values(comparison.job.experiment))),
    )
    place = (comparison.data, key_of(manifests), comparison.out)
    federated = [FederatedArm(comparison.job, name, *place) for name in comparison.strategies]
    regression = regression_arm(comparison.job, *place) if comparison.regression else None
    if comparison.regression and regression is None:
        name = comparison.job.experiment.model.name
        print(f"no arm 'regression': model '{name}' has no pairs or no adversary to leave out")
    return Plan(
        manifests,
        (*federated, *([regression] if regression else [])),
        arms_alone(comparison.job, *place),
    )


def stages(comparison: Comparison) -> tuple[dict[str, bool], ...]:
    """The parts of a comparison, and of each whether it has been run, as the files say.

    Returns:
        Parts of one stage can be run beside each other; those of the next need them all.

    Raises:
        UserError: data or settings that cannot be used.
    """
    records, plan = comparison.out / FINISHED, planned(comparison)
    arms = {arm.arm: finished_seconds(arm.process(), records) is not None for arm in plan.arms}
    evaluated = all(arms.values()) and _is_evaluated(comparison, plan)
    return arms, {EVALUATION: evaluated}


def _is_evaluated(comparison: Comparison, plan: Plan) -> bool:
    """Whether the run of finished arms is evaluated, and its record written."""
    outcomes = [arm.run() for arm in plan.arms]
    process = _evaluation(comparison, outcomes, key_of(plan.manifests))
    known = finished_seconds(process, comparison.out / FINISHED) is not None
    return known and (comparison.out / RUN_FILE).is_file()


def run_part(comparison: Comparison, part: str) -> None:
    """Run one arm; or, once all are finished, evaluate their models and write the run's record.

    Raises:
        UserError: data or settings that cannot be used, or the part failed.
    """
    if part == EVALUATION:
        run_comparison(comparison)
        return
    (arm,) = [arm for arm in planned(comparison).arms if arm.arm == part]
    arm.run()


def _record(comparison: Comparison, plan: Plan, outcomes: Sequence[ArmOutcome]) -> None:
    """Evaluate all models alike, and write what the run folder says of them."""
    out = comparison.out
    lines = [strategy_line(arm) for arm in outcomes if arm.job]
    write_strategies(out, lines)
    evaluation = _evaluation(comparison, outcomes, key_of(plan.manifests))
    run_process(evaluation, out / FINISHED)
    write_curves(out, outcomes)
    write_run_record(
        out,
        comparison.title,
        comparison.job,
        plan.manifests,
        outcomes,
        comparison.primary,
        comparison.design,
    )
    print(strategies_text(lines))


def _check_primary(comparison: Comparison) -> None:
    preset = PRESETS[comparison.job.experiment.preset]
    if comparison.primary.metric not in preset.metrics:
        raise ConfigError(
            f"--primary-metric {comparison.primary.metric}: preset '{preset.name}' does not "
            f"measure it; name one of {', '.join(preset.metrics)}"
        )


def _evaluation(
    comparison: Comparison, outcomes: Sequence[ArmOutcome], data_key: str
) -> ArmProcess:
    federation = comparison.job.federation
    sites = (*federation.sites, *federation.unseen)
    trained_models = [model for arm in outcomes for model in arm.models]
    models = [part for m in trained_models for part in ("--model", f"{m.name}={m.path}")]
    data = [part for site in sites for part in ("--data", str(comparison.data / site))]
    data += [part for site in federation.unseen for part in ("--unseen", site)]
    trained = "/".join(f"{m.name}:{m.path.stat().st_mtime_ns}" for m in trained_models)
    experiment = ("--experiment", str(comparison.out / "experiment.yaml"))
    rest = ("--out", str(comparison.out), "--threads", str(available_cores()))
    command = (sys.executable, "-m", "fedi2i", "evaluate", *models, *data, *experiment, *rest)
    return ArmProcess(
        name=EVALUATION,
        command=command,
        log=comparison.out / "logs" / "evaluation.log",
        produces=comparison.out / "results.csv",
        key=f"{trained}/{run_name('evaluation', comparison.job)}/{data_key}/all of an unseen site",
        show=("error:",),
    )
