"""The program ``fedi2i``: its map, and the command that a command line names."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches

from fedi2i import __version__
from fedi2i.cli import data, jobs, provision, report, training
from fedi2i.cli.entry import Entry
from fedi2i.commands import STOPPED, ArgumentParser, run_program

# In the order of the work.
_WIDTH = 80
# In the usage line: a line of its own would push the map off the screen.
_HINT = "'fedi2i COMMAND --help' tells more"

ENTRIES = (
    *data.ENTRIES,
    *training.ENTRIES,
    *jobs.ENTRIES,
    *report.ENTRIES,
    *training.TRANSLATION,
    *jobs.GOVERNANCE,
    *provision.ENTRIES,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the command line without ``fedi2i``; by default the process's own.

    Returns:
        The exit code, see ``fedi2i.commands.run_command``.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    entry = _chosen(given)
    return run_program(lambda: parser_for(given), given, entry.stopped if entry else STOPPED)


def parser_for(arguments: Sequence[str]) -> ArgumentParser:
    """The parser of a command line; of all packages, only the one that it names is imported.

    Args:
        arguments: the command line without ``fedi2i``.
    """
    parser = ArgumentParser(
        prog="fedi2i",
        usage=f"fedi2i [-h] [--version] COMMAND ... ({_HINT})",
        description=_map(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    # Both stand in the usage line; a block of their own would push the map off the screen.
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    parser.add_argument(
        "--version", action="version", version=f"fedi2i {__version__}", help=argparse.SUPPRESS
    )
    parser.set_defaults(run=lambda _: parser.print_help())
    word, entry = _first_word(arguments), _chosen(arguments)
    if entry is not None:
        entry.add_to(parser)
    elif word is not None:
        parser.error(f"unknown command '{word}'; {_did_you_mean(word)}")
    return parser


def _first_word(arguments: Sequence[str]) -> str | None:
    return next((text for text in arguments if not text.startswith("-")), None)


def _chosen(arguments: Sequence[str]) -> Entry | None:
    word = _first_word(arguments)
    return next((entry for entry in ENTRIES if entry.name == word), None)


def _map() -> str:
    """The project in one screen."""
    lines = ["Federated medical image-to-image translation. Commands in the order of the work:"]
    for entry in ENTRIES:
        lines.append(f"  {entry.name:<11}{entry.purpose}")
        if entry.members:
            names = f"({', '.join(entry.members)})"
            if len(lines[-1]) + 1 + len(names) <= _WIDTH:
                lines[-1] += f" {names}"
                continue
            # The bracket hangs, so that the names stand below the purpose.
            first, next_ones = " " * 12, " " * 13
            lines += textwrap.wrap(names, _WIDTH, initial_indent=first, subsequent_indent=next_ones)
    return "\n".join(lines)


def _did_you_mean(word: str) -> str:
    """The nearest known command, also where it belongs to a group."""
    names = {entry.name: [entry.name] for entry in ENTRIES}
    places = dict(names)
    for entry in ENTRIES:
        for member in entry.members:
            places[member] = [*places.get(member, []), f"{entry.name} {member}"]
    near = get_close_matches(word, places, n=1)
    if near:
        return f"did you mean {' or '.join(map(repr, places[near[0]]))}?"
    return f"known: {', '.join(names)}"
