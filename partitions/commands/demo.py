"""``demo``: write the computed demonstration cohort."""

from __future__ import annotations

import argparse
from pathlib import Path

from partitions.commands.table import site_table


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("demo", help="compute a demonstration cohort of several hospitals")
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="default: data/demo")
    parser.add_argument("--size", choices=("demo", "smoke"), default="demo")
    parser.add_argument("--seed", type=int, default=2026)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Write the cohort unless it is there, and say what it holds."""
    # Imported here, as the other commands have no use for it.
    from partitions.computed.cohort import write_cohort

    print(f"{arguments.size} cohort in {arguments.out}: computed, not acquired")
    manifests = write_cohort(arguments.out, seed=arguments.seed, size=arguments.size)
    print(site_table(manifests))
    print(f"next: python -m partitions prepare --data {arguments.out}")
