"""``python -m provision``: make, check, extend and renew kits; run a proof of concept."""

from __future__ import annotations

import argparse
import sys

from fedi2i.commands import run_command
from provision.commands import add_commands


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m provision", description=__doc__)
    add_commands(parser.add_subparsers(required=True))
    options = parser.parse_args(arguments)
    return run_command(lambda: options.run(options), options.stopped)


if __name__ == "__main__":
    sys.exit(main())
