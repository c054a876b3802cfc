"""Command line of the data side: ``python -m partitions <command>``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from fedi2i.commands import run_command
from partitions.commands import check, csv_table, demo, lgg, prepare


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m partitions",
        description="Bring scans into site folders, check them and prepare them for training.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for module in (demo, lgg, csv_table, check, prepare):
        module.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code (0 done, 2 a mistake the user can correct)."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    chosen = build_parser().parse_args(arguments)
    return run_command(lambda: chosen.run(chosen))


if __name__ == "__main__":
    sys.exit(main())
