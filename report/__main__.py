"""``python -m report runs/demo``: the command ``fedi2i report``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fedi2i.commands import ArgumentParser, run_program
from report.commands import add_arguments

DESCRIPTION = "Report one run: console table and report.html."


def main(arguments: Sequence[str] | None = None) -> int:
    """Report one run; return the exit code."""
    return run_program(_parser, arguments)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m report", description=DESCRIPTION)
    add_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
