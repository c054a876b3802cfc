"""``python -m partitions``: the commands of ``fedi2i data``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fedi2i.commands import ArgumentParser, parser_of, run_program
from partitions.commands import add_commands

DESCRIPTION = "Bring scans into site folders, check them and prepare them for training."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    return run_program(_parser, arguments)


def _parser() -> ArgumentParser:
    return parser_of("python -m partitions", DESCRIPTION, add_commands)


if __name__ == "__main__":
    sys.exit(main())
