"""``compare`` and ``tune``: run the arms of an experiment, or grids of settings."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fedi2i.commands import Commands
from fedi2i.errors import ConfigError
from jobs.commands.settings import (
    add_experiment_options,
    add_launcher_option,
    read_resources,
    read_settings,
    seeds_from,
)
from jobs.privacy.catalogue import base_job
from jobs.writing.federation import read_federated_experiment
from lightning_modules.metrics.presets.catalogue import SENDABLE
from lightning_modules.strategies.catalogue import STRATEGY_JOBS, with_companions

if TYPE_CHECKING:
    from jobs.running.comparison import Comparison

TUNED = tuple(name for name, job in STRATEGY_JOBS.items() if job.strategy.grid)


class CompareOptions(Protocol):
    """What ``compare`` is told."""

    experiment: Path
    settings: list[str]
    data: Path
    out: Path
    strategies: str
    at_once: int | None
    launcher: str
    resources: list[str]
    title: str
    primary_metric: str
    primary_patients: str
    no_regression: bool
    ensemble: bool
    fine_tuning: int
    leave_one_site_out: bool
    distributions: bool


class TuneOptions(Protocol):
    """What ``tune`` is told."""

    grids: list[str]
    seeds: str
    in_process: bool
    experiment: Path
    settings: list[str]
    data: Path
    out: Path


def add_compare(commands: Commands) -> None:
    """Add ``compare``."""
    parser = commands.add_parser("compare", help="run and evaluate all arms of an experiment")
    add_experiment_options(parser)
    _add_folders(parser, Path("runs/demo"))
    parser.add_argument(
        "--strategies",
        default="fedavg,fedprox",
        help="jobs, comma-separated, or 'all'; by default fedavg,fedprox",
    )
    parser.add_argument(
        "--at-once", type=int, help="processes that train, or jobs that run, at the same time"
    )
    add_launcher_option(parser)
    parser.add_argument(
        "--resource",
        action="append",
        default=[],
        dest="resources",
        metavar="KEY=VALUE",
        help="what one job of the launcher may use, e.g. cores=8; may be repeated",
    )
    parser.add_argument("--title", default="FedI2I demo", help="heading of the page")
    parser.add_argument(
        "--primary-metric",
        default="psnr",
        choices=tuple(SENDABLE),
        help="what the comparison is about, named before it is run; by default psnr",
    )
    parser.add_argument(
        "--primary-patients",
        default="federated",
        choices=("federated", "unseen"),
        help="whose patients: of the sites that train (default), or of the unseen ones",
    )
    parser.add_argument(
        "--distributions",
        action="store_true",
        help="also measure how far each arm's slices, as a set, are from the real ones",
    )
    _add_arms(parser)
    parser.set_defaults(run=compare)


def _add_arms(parser: argparse.ArgumentParser) -> None:
    """Arms beside those of the strategies."""
    parser.add_argument(
        "--no-regression",
        action="store_true",
        help="leave out the arm 'regression', which is FedAvg without a discriminator",
    )
    parser.add_argument(
        "--ensemble", action="store_true", help="also the mean of the local models' outputs"
    )
    parser.add_argument(
        "--fine-tuning",
        type=int,
        default=0,
        metavar="STEPS",
        help="also FedAvg's final model after so many more steps at each site alone",
    )
    parser.add_argument(
        "--leave-one-site-out",
        action="store_true",
        help="also FedAvg without each of the sites, measured there",
    )


def compare(options: CompareOptions) -> None:
    """Run all arms of an experiment, evaluate them and write a run folder."""
    # Imported here, as a mistake in the command line should not wait seconds for torch.
    from jobs.running.comparison import run_comparison
    from jobs.running.launching.parts import launch_comparisons

    resources = read_resources(options.resources, options.launcher)
    comparison = _comparison(options)
    if options.launcher:
        # A job may start in another folder.
        comparison = replace(comparison, data=options.data.resolve(), out=options.out.resolve())
        out, at_once = comparison.out, options.at_once
        launch_comparisons([comparison], options.launcher, out, resources, at_once)
    run_comparison(comparison)


def _comparison(options: CompareOptions) -> Comparison:
    from jobs.running.comparison import Comparison
    from jobs.running.run_record import PrimaryOutcome

    if options.fine_tuning < 0:
        raise ConfigError(f"--fine-tuning {options.fine_tuning}: write a number of steps, or 0")
    changes = {"experiment": read_settings(options.settings)}
    job = read_federated_experiment(options.experiment, changes)
    if options.primary_patients == "unseen" and not job.federation.unseen:
        raise ConfigError(
            f"--primary-patients unseen: {options.experiment} names no site under "
            "federation.unseen; name one, or take 'federated'"
        )
    return Comparison(
        job=job,
        data=options.data,
        out=options.out,
        strategies=_strategies(options.strategies),
        at_once=options.at_once,
        title=options.title,
        primary=PrimaryOutcome(options.primary_metric, options.primary_patients),
        regression=not options.no_regression,
        ensemble=options.ensemble,
        fine_tuning=options.fine_tuning,
        leave_one_site_out=options.leave_one_site_out,
        distributions=options.distributions,
    )


def add_tune(commands: Commands) -> None:
    """Add ``tune``."""
    parser = commands.add_parser("tune", help="run grids of settings over seeds and choose")
    parser.add_argument(
        "grids", nargs="+", help=f"learning_rates, optimizer_state, {', '.join(TUNED)}"
    )
    parser.add_argument("--seeds", default="101,102", help="two or more; by default 101,102")
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="train in this process instead of NVFlare's simulator: the same bits, sooner",
    )
    add_experiment_options(parser)
    _add_folders(parser, Path("runs/tuning"))
    parser.set_defaults(run=tune)


def tune(options: TuneOptions) -> None:
    """Run grids of settings and print what the rule chooses."""
    # Imported here, as a mistake in the command line should not wait seconds for torch.
    from jobs.running.spent_epsilon import read_trainings, study_sentences
    from jobs.running.tuning.grids import run_tuning
    from jobs.running.tuning.table import TABLE_FILE

    seeds = seeds_from(options.seeds)
    changes = {"experiment": read_settings(options.settings)}
    job = read_federated_experiment(options.experiment, changes)
    choices = run_tuning(
        job, options.data, options.out, options.grids, seeds, in_process=options.in_process
    )
    for name, choice in choices.items():
        print(choice.text(name))
    print(f"wrote {options.out / TABLE_FILE}")
    if job.privacy.acts:
        for sentence in study_sentences(read_trainings(options.out)):
            print(sentence)


def _add_folders(parser: argparse.ArgumentParser, out: Path) -> None:
    parser.add_argument("--data", type=Path, default=Path("data/demo"), help="by default data/demo")
    parser.add_argument("--out", type=Path, default=out, help=f"by default {out}")


def _strategies(text: str) -> tuple[str, ...]:
    if text == "all":
        return tuple(STRATEGY_JOBS)
    asked = tuple(text.split(","))
    bases = [base_job(name).name for name in asked]
    companions = tuple(name for name in with_companions(bases) if name not in bases)
    if companions:
        print(f"the comparison also needs: {', '.join(companions)}")
    return (*asked, *companions)
