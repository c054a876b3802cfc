"""Run every arm of one experiment, evaluate all models alike, and write a run folder.

Each arm is a command that a person could type; the commands are printed. An arm whose settings and
data have not changed since it finished is not run again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from app_custom.nvflare_files import final_model_path, metrics_path
from jobs.arm_process import ArmProcess, run_process
from jobs.export import export_job
from jobs.federation import FederatedExperiment, strategy_overrides
from jobs.job_folder import run_name
from jobs.run_record import ArmOutcome, write_curves, write_run_record
from jobs.workspace import prepare_workspace
from lightning_modules.configuration import experiment_from
from lightning_modules.hardware import available_cores
from partitions.atomic_file import write_text
from partitions.manifest import check_partition, read_manifest
from partitions.preparation import prepare_site
from partitions.typed_config import as_dict, merged


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
    """

    job: FederatedExperiment
    data: Path
    out: Path
    strategies: tuple[str, ...]
    at_once: int | None
    title: str


def run_comparison(comparison: Comparison) -> None:
    """Run, evaluate and record. Progress goes to the console, details to ``<out>/logs``.

    Raises:
        UserError: data or settings that cannot be used, or an arm that failed.
    """
    federation = comparison.job.federation
    for strategy in comparison.strategies:
        _with_strategy(comparison.job, strategy)  # a misspelt one ends the run before it starts
    manifests = [
        read_manifest(comparison.data / site, expected_site=site)
        for site in (*federation.sites, *federation.unseen)
    ]
    check_partition(manifests)
    preparation = comparison.job.experiment.data.preparation
    for manifest in manifests:
        prepare_site(manifest, preparation, manifest.root / "prepared")
    data_key = "".join(manifest.content_hash() for manifest in manifests)
    write_text(
        comparison.out / "experiment.yaml",
        OmegaConf.to_yaml(OmegaConf.create(as_dict(comparison.job.experiment))),
    )
    outcomes = [
        *(_run_federated(comparison, strategy, data_key) for strategy in comparison.strategies),
        *_run_baselines(comparison, data_key),
    ]
    _evaluate(comparison, outcomes, data_key)
    write_curves(comparison.out, outcomes)
    write_run_record(comparison.out, comparison.title, comparison.job, manifests, outcomes)


def _run_federated(comparison: Comparison, strategy: str, data_key: str) -> ArmOutcome:
    job = _with_strategy(comparison.job, strategy)
    folder = export_job(strategy, job, comparison.out / "jobs" / strategy)
    workspace = comparison.out / "workspaces" / strategy
    prepare_workspace(workspace, {job.experiment.data.dataset: comparison.data})
    process = ArmProcess(
        name=strategy,
        command=(
            *_program("nvflare"),
            "simulator",
            str(folder),
            "-w",
            str(workspace),
            "-t",
            str(len(job.federation.sites)),
        ),
        log=comparison.out / "logs" / f"{strategy}.log",
        produces=final_model_path(workspace),
        key=f"{run_name(strategy, job)}/{data_key}",
        show=("global model after", "continuing an interrupted", "ERROR", "refused"),
    )
    seconds = run_process(process, comparison.out / "finished")
    return ArmOutcome(
        name=strategy,
        model=final_model_path(workspace),
        metrics=metrics_path(workspace),
        seconds=seconds,
        sites=len(job.federation.sites),
        federated=True,
    )


def _run_baselines(comparison: Comparison, data_key: str) -> list[ArmOutcome]:
    """Centralised beside the local-only runs: together they fill the cores evenly."""
    sites = comparison.job.federation.sites
    arms = {"centralised": sites} | {f"local-{site}": (site,) for site in sites}
    with ThreadPoolExecutor(max(1, comparison.at_once or available_cores())) as pool:
        futures = [
            pool.submit(_run_baseline, comparison, name, members, data_key)
            for name, members in arms.items()
        ]
        return [future.result() for future in futures]


def _run_baseline(
    comparison: Comparison, name: str, sites: Sequence[str], data_key: str
) -> ArmOutcome:
    out = comparison.out / "arms" / name
    data = [part for site in sites for part in ("--data", str(comparison.data / site))]
    process = ArmProcess(
        name=name,
        command=(
            sys.executable,
            "-m",
            "lightning_modules",
            "train",
            *data,
            "--experiment",
            str(comparison.out / "experiment.yaml"),
            "--out",
            str(out),
        ),
        log=comparison.out / "logs" / f"{name}.log",
        produces=out / "model.pt",
        key=f"{run_name(name, comparison.job)}/{data_key}",
        show=("error:",),
    )
    seconds = run_process(process, comparison.out / "finished")
    return ArmOutcome(name, out / "model.pt", out / "metrics.csv", seconds, len(sites), False)


def _evaluate(comparison: Comparison, outcomes: Sequence[ArmOutcome], data_key: str) -> None:
    federation = comparison.job.federation
    sites = (*federation.sites, *federation.unseen)
    models = [part for arm in outcomes for part in ("--model", f"{arm.name}={arm.model}")]
    data = [part for site in sites for part in ("--data", str(comparison.data / site))]
    trained = "/".join(f"{arm.name}:{arm.model.stat().st_mtime_ns}" for arm in outcomes)
    process = ArmProcess(
        name="evaluation",
        command=(
            sys.executable,
            "-m",
            "lightning_modules",
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
        key=f"{trained}/{run_name('evaluation', comparison.job)}/{data_key}",
        show=("error:",),
    )
    run_process(process, comparison.out / "finished")


def _with_strategy(job: FederatedExperiment, strategy: str) -> FederatedExperiment:
    values = merged(as_dict(job.experiment), strategy_overrides(strategy))
    return FederatedExperiment(job.federation, experiment_from(values, f"strategy '{strategy}'"))


def _program(name: str) -> tuple[str, ...]:
    """A console script of this environment, also when the environment is not activated."""
    return (str(Path(sys.executable).with_name(name)),)
