"""``compare`` and ``grid``: run the arms of an experiment, or a strategy with several settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Protocol

from fedi2i.commands import Commands
from jobs.commands.settings import add_experiment_options, read_settings
from jobs.writing.federation import read_federated_experiment
from lightning_modules.strategies.catalogue import STRATEGY_JOBS, with_companions

TUNED = tuple(name for name, job in STRATEGY_JOBS.items() if job.strategy.grid)


class CompareOptions(Protocol):
    """What ``compare`` is told."""

    experiment: Path
    settings: list[str]
    data: Path
    out: Path
    strategies: str
    at_once: int | None
    title: str


class GridOptions(Protocol):
    """What ``grid`` is told."""

    strategy: str
    experiment: Path
    settings: list[str]
    data: Path
    out: Path


def add_compare(commands: Commands) -> None:
    """Add ``compare``."""
    parser = commands.add_parser("compare", help="run and evaluate all arms of an experiment")
    add_experiment_options(parser)
    _add_folders(parser, Path("runs/demo"))
    parser.add_argument("--strategies", default="fedavg,fedprox", help="comma-separated, or 'all'")
    parser.add_argument("--at-once", type=int, help="processes that train at the same time")
    parser.add_argument("--title", default="FedI2I demo")
    parser.set_defaults(run=compare)


def compare(options: CompareOptions) -> None:
    """Run all arms of an experiment, evaluate them and write a run folder."""
    # Imported here, as a mistake in the command line should not wait seconds for torch.
    from jobs.running.comparison import Comparison, run_comparison

    changes = {"experiment": read_settings(options.settings)}
    run_comparison(
        Comparison(
            job=read_federated_experiment(options.experiment, changes),
            data=options.data,
            out=options.out,
            strategies=_strategies(options.strategies),
            at_once=options.at_once,
            title=options.title,
        )
    )


def add_grid(commands: Commands) -> None:
    """Add ``grid``."""
    parser = commands.add_parser("grid", help="run one strategy over a small grid of its settings")
    parser.add_argument("strategy", help=f"one of {', '.join(TUNED)}")
    add_experiment_options(parser)
    _add_folders(parser, Path("runs/grid"))
    parser.set_defaults(run=grid)


def grid(options: GridOptions) -> None:
    """Run one strategy over a small grid of its settings."""
    # Imported here, as a mistake in the command line should not wait seconds for torch.
    from jobs.running.grid import run_grid

    changes = {"experiment": read_settings(options.settings)}
    job = read_federated_experiment(options.experiment, changes)
    run_grid(job, options.data, options.out, options.strategy)


def _add_folders(parser: argparse.ArgumentParser, out: Path) -> None:
    parser.add_argument("--data", type=Path, default=Path("data/demo"), help="by default data/demo")
    parser.add_argument("--out", type=Path, default=out, help=f"by default {out}")


def _strategies(text: str) -> tuple[str, ...]:
    if text == "all":
        return tuple(STRATEGY_JOBS)
    asked = tuple(text.split(","))
    compared = with_companions(asked)
    if len(compared) > len(asked):
        print(f"the comparison also needs: {', '.join(compared[len(asked) :])}")
    return compared
