"""``lgg``: import the TCGA-LGG brain MRI set."""

from __future__ import annotations

import argparse
from pathlib import Path

from partitions.commands.table import site_table
from partitions.readers.lgg import import_lgg


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("lgg", help="import TCGA-LGG (kaggle_3m), one site per hospital")
    parser.add_argument("--source", type=Path, required=True, help="the folder kaggle_3m")
    parser.add_argument("--out", type=Path, default=Path("data/lgg"), help="default: data/lgg")
    parser.add_argument("--seed", type=int, default=2026, help="of the split by patient")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Import the set and say what was found."""
    print(f"importing {arguments.source} into {arguments.out}")
    manifests = import_lgg(arguments.source, arguments.out, arguments.seed)
    print(site_table(manifests))
    print(
        f"next: python -m partitions prepare --data {arguments.out} "
        "--set target=flair --set spacing=null --set size=[256,256]"
    )
