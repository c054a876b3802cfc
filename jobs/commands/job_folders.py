"""``export`` and ``committed``: write NVFlare job folders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf

from app_custom.aggregation.compression import KINDS
from app_custom.gates.job_limits import JobLimits, why_more
from fedi2i.commands import Commands
from fedi2i.errors import ConfigError
from fedi2i.typed_config import merged, nearest
from jobs.commands.settings import add_experiment_options, read_settings
from jobs.privacy.catalogue import PRIVACY_JOBS
from jobs.writing.documentation import write_documents
from jobs.writing.evaluation_job import EVALUATE, evaluation_of
from jobs.writing.export import export_job, write_job
from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment
from jobs.writing.statistics_job import NAME as STATISTICS
from jobs.writing.statistics_job import StatisticsSettings, statistics_files
from lightning_modules.strategies.catalogue import STRATEGY_JOBS, strategy_job

JOBS_FOLDER = Path(__file__).resolve().parents[1]


class ExportOptions(Protocol):
    """What ``export`` is told; None is not said, so that the experiment decides."""

    strategy: str
    experiment: Path
    settings: list[str]
    out: Path
    sites: str | None
    dataset: str | None
    rounds: int | None
    steps: int | None
    min_sites: int | None
    round_timeout: int | None
    gpus: str | None
    gpu_memory: float | None
    compression: str | None
    initial_model: str | None


def add_export(commands: Commands) -> None:
    """Add ``export``."""
    parser = commands.add_parser("export", help="write a job folder for your sites and settings")
    names = ", ".join([*committed_jobs(), EVALUATE])
    parser.add_argument("strategy", help=f"one of {names}")
    parser.add_argument(
        "--out", type=Path, required=True, help="job folder; its name is the job's name"
    )
    add_experiment_options(parser)
    parser.add_argument("--sites", help="comma-separated names, e.g. CS,DU,HT")
    parser.add_argument("--dataset", help="data set name, as the sites map it")
    parser.add_argument("--rounds", type=int, help="communication rounds")
    parser.add_argument("--steps", type=int, help="optimizer steps per site and round")
    parser.add_argument("--min-sites", type=int, help="fewest sites that make a round")
    parser.add_argument("--round-timeout", type=int, metavar="SECONDS", help="by default a day")
    parser.add_argument("--gpus", metavar="N", help="at every site, or e.g. north=2,east=1")
    parser.add_argument("--gpu-memory", type=float, metavar="GIB", help="that each must have")
    parser.add_argument("--compression", help=f"of arrays that travel: {', '.join(KINDS)}")
    parser.add_argument("--initial-model", metavar="NAME", help="as the server maps it")
    parser.set_defaults(run=export)


def export(options: ExportOptions) -> None:
    """Write one job folder."""
    evaluates = options.strategy == EVALUATE
    base = {} if evaluates else committed_job(options.strategy)
    changes = merged(base, _changes(options))
    asked = OmegaConf.select(OmegaConf.create(changes), "experiment.training.rounds")
    job = read_federated_experiment(options.experiment, changes, fit_rounds=asked is None)
    if evaluates:
        job = evaluation_of(job)
    out = export_job(options.out.name, job, options.out)
    print(f"wrote {out}: {', '.join(job.federation.sites)}")
    needed = job.federation.needed
    if needed < JobLimits().least_sites:
        print(f"real sites refuse rounds of {needed} site(s): {why_more(needed)}")


def committed_job(name: str) -> dict[str, Any]:
    """What one committed job changes in an experiment.

    Raises:
        ConfigError: there is no such job.
    """
    known = committed_jobs()
    if name not in known:
        raise ConfigError(f"unknown strategy '{name}'; {nearest(name, known)}")
    return known[name]


def add_committed(commands: Commands) -> None:
    """Add ``committed``."""
    parser = commands.add_parser("committed", help="write the committed job folders again")
    parser.set_defaults(run=committed)


def committed(_: argparse.Namespace) -> None:
    """Write all committed job folders, and the tables of strategies in the documents.

    Raises:
        ConfigError: this is no clone of the repository.
    """
    if not (JOBS_FOLDER.parent / "pyproject.toml").is_file():
        raise ConfigError(
            f"{JOBS_FOLDER}: belongs to an installed package, and the committed job folders to a "
            "clone of the repository; write one of your own with 'fedi2i jobs export'"
        )
    write_committed(JOBS_FOLDER)
    for document in write_documents(JOBS_FOLDER.parent):
        print(f"wrote the tables of strategies in {document}")


def write_committed(folder: Path) -> None:
    """Write one job folder for each strategy and each privacy job, and one that only evaluates."""
    for name, changes in committed_jobs().items():
        job = read_federated_experiment(DEFAULT_FILE, changes, fit_rounds=True)
        print(f"wrote {export_job(name, job, folder / name)}")
    evaluation = evaluation_of(read_federated_experiment(DEFAULT_FILE))
    print(f"wrote {export_job(EVALUATE, evaluation, folder / EVALUATE)}")
    print(f"wrote {write_job(committed_statistics(), folder / STATISTICS)}")


def committed_statistics() -> dict[str, str]:
    """The files of the committed job of statistics, of the default experiment."""
    job = read_federated_experiment(DEFAULT_FILE, {})
    return statistics_files(STATISTICS, job, StatisticsSettings())


def committed_jobs() -> dict[str, dict[str, Any]]:
    """What every committed job changes in the default experiment."""
    private = {
        name: merged(strategy_job(job.strategy_job).experiment, job.changes)
        for name, job in PRIVACY_JOBS.items()
    }
    return {**{name: job.experiment for name, job in STRATEGY_JOBS.items()}, **private}


def _changes(options: ExportOptions) -> dict[str, Any]:
    """Settings given on the command line, as nested values."""
    settings = read_settings(options.settings)
    _refuse_what_says_nothing(options)
    training = _said(rounds=options.rounds, steps=options.steps)
    data = _said(dataset=options.dataset)
    return merged(
        {"experiment": settings},
        {"experiment": {"training": training}} if training else {},
        {"experiment": {"data": data}} if data else {},
        {"federation": _federation(options)},
    )


def _refuse_what_says_nothing(options: ExportOptions) -> None:
    texts = {
        "--sites": options.sites,
        "--gpus": options.gpus,
        "--dataset": options.dataset,
        "--initial-model": options.initial_model,
    }
    for name, text in texts.items():
        if text == "":
            raise ConfigError(f"{name}: empty; give a value or leave it out")
    if options.gpu_memory is not None and options.gpus is None:
        raise ConfigError("--gpu-memory: of how many GPUs? give --gpus as well")


def _federation(options: ExportOptions) -> dict[str, Any]:
    changes = _said(
        min_sites=options.min_sites,
        round_timeout=options.round_timeout,
        gpu_memory=options.gpu_memory,
        compression=options.compression,
        initial_model=options.initial_model,
    )
    if options.sites is not None:
        changes |= {"sites": options.sites.split(","), "unseen": []}
    if options.gpus is not None:
        changes["gpus"] = _gpus(options.gpus, options)
    return changes


def _gpus(text: str, options: ExportOptions) -> dict[str, int]:
    """``2`` is two GPUs at every site that trains, ``north=2,east=1`` says it for each."""
    try:
        if "=" not in text:
            sites = read_federated_experiment(options.experiment).federation.sites
            named = options.sites.split(",") if options.sites else sites
            return dict.fromkeys(named, int(text))
        pairs = (part.partition("=") for part in text.split(","))
        return {site.strip(): int(number) for site, _, number in pairs}
    except ValueError as error:
        raise ConfigError(
            f"--gpus {text}: write a number for all sites, or site=number, e.g. north=2,east=1"
        ) from error


def _said(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
