"""``python -m provision``: the commands of ``fedi2i provision``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fedi2i.commands import ArgumentParser, parser_of, run_program
from provision.commands import add_commands

DESCRIPTION = "Make, check, extend and renew kits; run a proof of concept on this machine."
STOPPED = "stopped; nothing is left running"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    return run_program(_parser, arguments, STOPPED)


def _parser() -> ArgumentParser:
    return parser_of("python -m provision", DESCRIPTION, add_commands)


if __name__ == "__main__":
    sys.exit(main())
