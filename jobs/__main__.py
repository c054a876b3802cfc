"""``python -m jobs``: write job folders and simulator workspaces, run the comparison."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from app_custom.aggregation.compression import KINDS
from fedi2i.commands import name_and_path, run_command
from fedi2i.errors import ConfigError
from fedi2i.typed_config import merged
from jobs.writing.export import export_job
from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment
from jobs.writing.workspace import DEFAULT_NAME, prepare_workspace
from lightning_modules.strategies.catalogue import STRATEGY_JOBS, strategy_job, with_companions

JOBS_FOLDER = Path(__file__).parent


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: options.run(options))


def export_command(options: argparse.Namespace) -> None:
    """Write one job folder."""
    changes = merged(
        {"experiment": {"strategy": dict(strategy_job(options.strategy).values)}}, _changes(options)
    )
    asked = OmegaConf.select(OmegaConf.create(changes), "experiment.training.rounds")
    job = read_federated_experiment(options.experiment, changes, fit_rounds=asked is None)
    out = export_job(options.out.name, job, options.out)
    print(f"wrote {out}: {', '.join(job.federation.sites)}")


def committed_command(options: argparse.Namespace) -> None:
    """Write all committed job folders from the demo experiment."""
    for strategy in STRATEGY_JOBS:
        changes = strategy_job(strategy).experiment
        job = read_federated_experiment(DEFAULT_FILE, changes, fit_rounds=True)
        print(f"wrote {export_job(strategy, job, JOBS_FOLDER / strategy)}")


def workspace_command(options: argparse.Namespace) -> None:
    """Prepare a simulator workspace."""
    datasets = dict(
        name_and_path(text, "--dataset", "name=folder, e.g. demo=data/demo")
        for text in options.dataset or ["demo=data/demo"]
    )
    models = dict(name_and_path(text, "--model", "name=file") for text in options.model)
    prepare_workspace(
        options.folder, datasets, options.torch_threads, not options.no_images, models
    )
    job = "jobs/fedavg" if "demo" in datasets else "<job for your data set>"
    print(f"prepared {options.folder}: run 'nvflare simulator {job} -w {options.folder}'")


def compare_command(options: argparse.Namespace) -> None:
    """Run all arms of an experiment, evaluate them and write a run folder."""
    from jobs.running.comparison import Comparison, run_comparison

    job = read_federated_experiment(options.experiment, _changes(options))
    run_comparison(
        Comparison(
            job=job,
            data=options.data,
            out=options.out,
            strategies=_strategies(options.strategies),
            at_once=options.at_once,
            title=options.title,
        )
    )


def grid_command(options: argparse.Namespace) -> None:
    """Run one strategy over a small grid of its settings."""
    from jobs.running.grid import run_grid

    job = read_federated_experiment(options.experiment, _changes(options))
    run_grid(job, options.data, options.out, options.strategy)


def _strategies(text: str) -> tuple[str, ...]:
    if text == "all":
        return tuple(STRATEGY_JOBS)
    asked = tuple(text.split(","))
    compared = with_companions(asked)
    if len(compared) > len(asked):
        print(f"also run, as the comparison needs them: {', '.join(compared[len(asked) :])}")
    return compared


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """Settings given on the command line, as nested values."""
    dots = [text if text.count("=") else f"{text}=" for text in options.set]
    for text in dots:
        if not text.split("=", 1)[1]:
            raise ConfigError(f"--set {text}: write key=value, e.g. training.rounds=4")
        if text.split("=", 1)[0] in ("strategy", "strategy.name"):
            raise ConfigError(f"--set {text}: the command names the strategy; leave this out")
    try:
        settings = OmegaConf.to_container(OmegaConf.from_dotlist(dots), resolve=True)
    except Exception as error:  # YAML parsers raise many unrelated types
        raise ConfigError(f"--set {' '.join(dots)}: a value cannot be read as YAML") from error
    changes: dict[str, Any] = {"experiment": settings}
    for name in ("sites", "gpus", "dataset", "initial_model"):
        if getattr(options, name, None) == "":
            raise ConfigError(f"--{name.replace('_', '-')}: empty; give a value or leave it out")
    if getattr(options, "gpu_memory", None) is not None and options.gpus is None:
        raise ConfigError("--gpu-memory: of how many GPUs? give --gpus as well")
    if getattr(options, "sites", None):
        changes["federation"] = {"sites": options.sites.split(","), "unseen": []}
    if getattr(options, "gpus", None):
        changes.setdefault("federation", {})["gpus"] = _gpus(options)
    for key in ("min_sites", "round_timeout", "gpu_memory", "compression"):
        if getattr(options, key, None) is not None:
            changes.setdefault("federation", {})[key] = getattr(options, key)
    if getattr(options, "initial_model", None):
        changes = merged(changes, {"federation": {"initial_model": options.initial_model}})
    for key in ("rounds", "steps"):
        if getattr(options, key, None) is not None:
            changes = merged(changes, {"experiment": {"training": {key: getattr(options, key)}}})
    if getattr(options, "dataset", None):
        changes = merged(changes, {"experiment": {"data": {"dataset": options.dataset}}})
    return changes


def _gpus(options: argparse.Namespace) -> dict[str, int]:
    """``2`` is two GPUs at every site that trains, ``north=2,east=1`` says it for each."""
    text = str(options.gpus)
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


_SETTINGS: dict[str, Any] = {
    "action": "append",
    "default": [],
    "metavar": "KEY=VALUE",
    "help": "of the experiment, e.g. training.batch_size=4; may be repeated",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobs", description=__doc__)
    commands = parser.add_subparsers(required=True)
    export = commands.add_parser("export", help="write a job folder for your sites and settings")
    export.add_argument("strategy", help=f"one of {', '.join(STRATEGY_JOBS)}")
    export.add_argument("--experiment", type=Path, default=DEFAULT_FILE, help="YAML file")
    export.add_argument(
        "--out", type=Path, required=True, help="job folder; its name is the job's name"
    )
    export.add_argument("--sites", help="comma-separated names, e.g. CS,DU,HT")
    export.add_argument("--dataset", help="data set name, as the sites map it")
    export.add_argument("--rounds", type=int, help="communication rounds")
    export.add_argument("--steps", type=int, help="optimizer steps per site and round")
    export.add_argument("--min-sites", type=int, help="fewest sites that make a round")
    export.add_argument("--round-timeout", type=int, metavar="SECONDS", help="by default a day")
    export.add_argument("--gpus", metavar="N", help="at every site, or e.g. north=2,east=1")
    export.add_argument("--gpu-memory", type=float, metavar="GIB", help="that each must have")
    export.add_argument("--compression", help=f"of arrays that travel: {', '.join(KINDS)}")
    export.add_argument("--initial-model", metavar="NAME", help="as the server maps it")
    export.add_argument("--set", **_SETTINGS)
    export.set_defaults(run=export_command)
    committed = commands.add_parser("committed", help="write the committed job folders again")
    committed.set_defaults(run=committed_command)
    workspace = commands.add_parser("workspace", help="prepare a simulator workspace")
    workspace.add_argument("folder", type=Path, nargs="?", default=Path(DEFAULT_NAME))
    workspace.add_argument(
        "--dataset", action="append", metavar="NAME=FOLDER", help="the folder of all sites' data"
    )
    workspace.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="that jobs may start from",
    )
    workspace.add_argument("--torch-threads", type=int, help="threads per site process")
    workspace.add_argument("--no-images", action="store_true", help="send no picture panels")
    workspace.set_defaults(run=workspace_command)
    compare = commands.add_parser("compare", help="run and evaluate all arms of an experiment")
    compare.add_argument("--experiment", type=Path, default=DEFAULT_FILE, help="YAML file")
    compare.add_argument(
        "--data", type=Path, default=Path("data/demo"), help="by default data/demo"
    )
    compare.add_argument("--out", type=Path, default=Path("runs/demo"), help="by default runs/demo")
    compare.add_argument("--strategies", default="fedavg,fedprox", help="comma-separated, or 'all'")
    compare.add_argument("--at-once", type=int, help="processes that train at the same time")
    compare.add_argument("--title", default="FedI2I demo")
    compare.add_argument("--set", **_SETTINGS)
    compare.set_defaults(run=compare_command)
    grid = commands.add_parser("grid", help="run one strategy over a small grid of its settings")
    grid.add_argument("strategy", help=f"one of {', '.join(STRATEGY_JOBS)}")
    grid.add_argument("--experiment", type=Path, default=DEFAULT_FILE, help="YAML file")
    grid.add_argument("--data", type=Path, default=Path("data/demo"), help="by default data/demo")
    grid.add_argument("--out", type=Path, default=Path("runs/grid"), help="by default runs/grid")
    grid.add_argument("--set", **_SETTINGS)
    grid.set_defaults(run=grid_command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
