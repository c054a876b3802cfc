"""Command line of the data side: ``python -m partitions <command>``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from partitions.commands import check, csv_table, demo, lgg, prepare
from partitions.errors import UserError

USER_ERROR = 2
INTERRUPTED = 130


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
    try:
        chosen.run(chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:
        place = error.filename or "data"
        reason = error.strerror or str(error)
        print(f"error: {place}: {reason}; check room and permissions there", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
