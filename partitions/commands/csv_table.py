"""``csv``: bring in NIfTI scans of one's own through a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from partitions.commands.table import site_table
from partitions.readers.csv_manifest import import_csv


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("csv", help="make manifests from a table of NIfTI scans")
    parser.add_argument(
        "--table", type=Path, required=True, help="see docs/data.md for its columns"
    )
    parser.add_argument("--out", type=Path, required=True, help="site folders are made here")
    parser.add_argument("--dataset", required=True, help="the data set's name, as jobs call it")
    parser.add_argument("--seed", type=int, default=2026, help="of the split by patient")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Write the manifests and say what they hold."""
    print(f"reading {arguments.table}; the scans stay where they are")
    manifests = import_csv(arguments.table, arguments.out, arguments.dataset, arguments.seed)
    print(site_table(manifests))
    print(f"next: python -m partitions prepare --data {arguments.out}")
