"""Run every arm of one experiment, evaluate all models alike, and write a run folder.

Each arm is a command that a person could type; the commands are printed. An arm whose settings and
data have not changed since it finished is not run again.

A comparison is run whole, or part by part: an arm, or the evaluation of all of them, is a part that
can be run by itself, on any machine that sees the folders. What has been run is known from files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from omegaconf import OmegaConf

from fedi2i.cores import available_cores
from fedi2i.errors import ConfigError
from fedi2i.files import write_text
from jobs.running.arm_outcome import ArmOutcome
from jobs.running.arm_process import FINISHED, ArmProcess, finished_seconds, run_process
from jobs.running.baseline_arms import (
    LOCAL_PREFIX,
    REGRESSION,
    arms_alone,
    ensemble_of,
    regression_arm,
)
from jobs.running.comparison_checks import (
    REFERENCE,
    check_arms,
    check_distributions,
    check_patients,
)
from jobs.running.federated_arm import WORKSPACES, FederatedArm
from jobs.running.prepared_data import key_of, prepared_manifests
from jobs.running.run_record import (
    PrimaryOutcome,
    read_baselines,
    write_curves,
    write_run_record,
)
from jobs.running.site_arms import (
    FINE_TUNING_FILE,
    fine_tuned_arms,
    joined_families,
    left_out_arms,
)
from jobs.running.spent_epsilon import RUN_FILE, STUDY_FILE
from jobs.running.strategies_table import strategies_text, strategy_line, write_strategies
from jobs.writing.federation import FederatedExperiment
from jobs.writing.job_folder import run_name
from jobs.writing.workspace import RELAXED_LIMITS
from lightning_modules.configuration import experiment_values
from lightning_modules.metrics.presets.catalogue import PRESETS
from lightning_modules.training.hardware import choose_hardware
from lightning_modules.training.memory_check import check_memory
from partitions.manifest import SiteManifest

EVALUATION = "evaluation"
"""The part that measures the models of all arms."""
MEASURED = "baselines on validation patients"
"""What the evaluation measures since 0.3.0; an earlier one is run again."""


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
        ensemble: whether the mean of the local-only models' outputs is an arm.
        fine_tuning: optimizer steps that FedAvg's final model takes at each site alone; 0 for none.
        leave_one_site_out: whether FedAvg is also run without each of the sites.
        distributions: whether the evaluation also measures sets of slices (``distributions.csv``).
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
    ensemble: bool = False
    fine_tuning: int = 0
    leave_one_site_out: bool = False
    distributions: bool = False
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
        afterwards: arms of one process each, which begin with the model of another arm.
    """

    manifests: tuple[SiteManifest, ...]
    one_by_one: tuple[PlannedArm, ...]
    beside_each_other: tuple[PlannedArm, ...]
    afterwards: tuple[PlannedArm, ...] = ()

    @property
    def arms(self) -> tuple[PlannedArm, ...]:
        """All arms."""
        return (*self.one_by_one, *self.beside_each_other, *self.afterwards)


def run_comparison(comparison: Comparison) -> None:
    """Run, evaluate and record. Progress goes to the console, details to ``<out>/logs``.

    Raises:
        UserError: data or settings that cannot be used, or an arm that failed.
    """
    plan = planned(comparison)
    print(f"workspaces in {comparison.out / WORKSPACES}: {RELAXED_LIMITS}", flush=True)
    if comparison.regression and REGRESSION not in [arm.arm for arm in plan.arms]:
        name = comparison.job.experiment.model.name
        print(f"no arm 'regression': model '{name}' has no pairs or no adversary to leave out")
    _check_memory(comparison, plan)
    outcomes = [arm.run() for arm in plan.one_by_one]
    with ThreadPoolExecutor(max(1, comparison.at_once or available_cores())) as pool:
        # Centralised first: beside it the local-only runs fill the cores evenly.
        outcomes += list(pool.map(_run, plan.beside_each_other))
        outcomes += list(pool.map(_run, plan.afterwards))
    _record(comparison, plan, outcomes)


def _run(arm: PlannedArm) -> ArmOutcome:
    return arm.run()


def _check_memory(comparison: Comparison, plan: Plan) -> None:
    """Refuse arms whose trainings do not fit into memory beside each other, before the first.

    Patient-level noise trains on other numbers of slices; every site asks for itself then.
    """
    job, records = comparison.job, comparison.out / FINISHED
    waiting = [arm for arm in plan.arms if finished_seconds(arm.process(), records) is None]
    if not waiting or job.privacy.acts:
        return
    experiment, cores = job.experiment, available_cores()
    together = any(arm in plan.one_by_one for arm in waiting) and not job.federation.hostile
    alone = min(comparison.at_once or cores, len([a for a in waiting if a not in plan.one_by_one]))
    at_once = max(1, alone, len(job.federation.sites) if together else 1)
    hardware = choose_hardware(experiment.training.precision, cores)
    check_memory(experiment, hardware, at_once=at_once)


def planned(comparison: Comparison) -> Plan:
    """The arms of a comparison, once its settings are checked and its data prepared.

    Raises:
        UserError: data or settings that cannot be used.
    """
    _refuse_foreign(comparison)
    _check_primary(comparison)
    check_arms(
        comparison.job,
        comparison.strategies,
        ensemble=comparison.ensemble,
        fine_tuning=comparison.fine_tuning,
        leave_one_site_out=comparison.leave_one_site_out,
    )
    manifests = tuple(prepared_manifests(comparison.job, comparison.data))
    check_patients(comparison.job, manifests)
    if comparison.distributions:
        check_distributions(comparison.job, manifests)
    _write_experiments(comparison)
    place = (comparison.data, key_of(manifests), comparison.out)
    federated = [FederatedArm(comparison.job, name, *place) for name in comparison.strategies]
    reference = FederatedArm(comparison.job, REFERENCE, *place)
    left_out = left_out_arms(reference) if comparison.leave_one_site_out else ()
    return Plan(
        manifests,
        (*federated, *_regression(comparison, key_of(manifests)), *left_out),
        arms_alone(comparison.job, *place),
        fine_tuned_arms(reference, comparison.fine_tuning),
    )


def _regression(comparison: Comparison, data_key: str) -> tuple[PlannedArm, ...]:
    if not comparison.regression:
        return ()
    arm = regression_arm(comparison.job, comparison.data, data_key, comparison.out)
    if arm is None:
        return ()
    return (arm,)


def _write_experiments(comparison: Comparison) -> None:
    """Write what ``fedi2i train`` and ``evaluate`` read: the experiment, and fine-tuning's."""
    experiment = comparison.job.experiment
    written = {"experiment.yaml": experiment}
    if comparison.fine_tuning:
        training = replace(experiment.training, rounds=1, steps=comparison.fine_tuning)
        written[FINE_TUNING_FILE] = replace(experiment, training=training)
    for name, one in written.items():
        text = OmegaConf.to_yaml(OmegaConf.create(experiment_values(one)))
        write_text(comparison.out / name, text)


def stages(comparison: Comparison) -> tuple[dict[str, bool], ...]:
    """The parts of a comparison, and of each whether it has been run, as the files say.

    Returns:
        Parts of one stage can be run beside each other; those of the next need them all.

    Raises:
        UserError: data or settings that cannot be used.
    """
    records, plan = comparison.out / FINISHED, planned(comparison)
    ended = {arm.arm: finished_seconds(arm.process(), records) is not None for arm in plan.arms}
    evaluated = all(ended.values()) and _is_evaluated(comparison, plan)
    later = {arm.arm: ended.pop(arm.arm) for arm in plan.afterwards}
    return ended, later, {EVALUATION: evaluated}


def _is_evaluated(comparison: Comparison, plan: Plan) -> bool:
    """Whether the run of finished arms is evaluated, and its record written."""
    outcomes = _with_ensemble(comparison, [arm.run() for arm in plan.arms])
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
    outcomes = joined_families(_with_ensemble(comparison, outcomes))
    lines = [strategy_line(arm) for arm in outcomes if arm.job]
    write_strategies(out, lines)
    evaluation = _evaluation(comparison, outcomes, key_of(plan.manifests))
    run_process(evaluation, out / FINISHED)
    write_curves(out, outcomes, read_baselines(out))
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


def _with_ensemble(comparison: Comparison, outcomes: Sequence[ArmOutcome]) -> Sequence[ArmOutcome]:
    local = [arm for arm in outcomes if arm.name.startswith(LOCAL_PREFIX)]
    return [*outcomes, ensemble_of(local)] if comparison.ensemble else outcomes


def _refuse_foreign(comparison: Comparison) -> None:
    """Refuse a folder that holds a study, or a run of another study than the comparison's."""
    out = comparison.out
    if (out / STUDY_FILE).exists():
        raise ConfigError(f"{out}: holds a study of several seeds; take a new folder")
    with suppress(OSError, ValueError, AttributeError):  # none yet, or damaged, which is said later
        found = json.loads((out / RUN_FILE).read_text(encoding="utf-8")).get("design", "")
        if found != comparison.design:
            whose = "a run of another study" if found else "a run that belongs to no study"
            raise ConfigError(f"{out}: holds {whose}, which would be replaced; take a new folder")


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
    all_models = [model for arm in outcomes for model in arm.models]
    files = [(model.name, model.path) for model in all_models if model.path]
    models = [part for name, path in files for part in ("--model", f"{name}={path}")]
    means = [f"{model.name}={','.join(model.members)}" for model in all_models if model.members]
    models += [part for mean in means for part in ("--ensemble", mean)]
    data = [part for site in sites for part in ("--data", str(comparison.data / site))]
    data += [part for site in federation.unseen for part in ("--unseen", site)]
    trained = "/".join([f"{name}:{path.stat().st_mtime_ns}" for name, path in files] + means)
    measured = f"all of an unseen site/{MEASURED}"
    experiment = ("--experiment", str(comparison.out / "experiment.yaml"))
    rest: tuple[str, ...] = ("--out", str(comparison.out), "--threads", str(available_cores()))
    if comparison.distributions:
        rest, measured = (*rest, "--distributions"), f"{measured}/distributions"
    command = (sys.executable, "-m", "fedi2i", "evaluate", *models, *data, *experiment, *rest)
    return ArmProcess(
        name=EVALUATION,
        command=command,
        log=comparison.out / "logs" / "evaluation.log",
        produces=comparison.out / "results.csv",
        key=f"{trained}/{run_name('evaluation', comparison.job)}/{data_key}/{measured}",
        show=("error:",),
    )
