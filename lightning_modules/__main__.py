"""``python -m lightning_modules``: the commands ``train``, ``evaluate`` and ``channels``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fedi2i.commands import ArgumentParser, parser_of, run_program
from lightning_modules.commands import add_commands

DESCRIPTION = "Train without a federation, evaluate models, look into networks."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    return run_program(_parser, arguments)


def _parser() -> ArgumentParser:
    return parser_of("python -m lightning_modules", DESCRIPTION, add_commands)


if __name__ == "__main__":
    sys.exit(main())
