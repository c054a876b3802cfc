"""Command line: ``python -m report runs/demo`` prints the results and writes ``report.html``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fedi2i.commands import run_command
from report.commands import add_arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after one sentence about what is wrong with the run."""
    parser = argparse.ArgumentParser(
        prog="python -m report", description="Report one run: console table and report.html."
    )
    add_arguments(parser)
    options = parser.parse_args(arguments)
    return run_command(lambda: options.run(options))


if __name__ == "__main__":
    sys.exit(main())
