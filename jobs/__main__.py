"""``python -m jobs``: the commands of ``fedi2i jobs``, and ``compare``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fedi2i.commands import ArgumentParser, parser_of, run_program
from jobs.commands import add_commands

DESCRIPTION = "Write NVFlare job folders and simulator workspaces, and run comparisons."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    return run_program(_parser, arguments)


def _parser() -> ArgumentParser:
    return parser_of("python -m jobs", DESCRIPTION, add_commands)


if __name__ == "__main__":
    sys.exit(main())
