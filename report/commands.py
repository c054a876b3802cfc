"""The command ``fedi2i report``: print the results of a run and write ``report.html``."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedi2i.commands import Commands
from fedi2i.files import write_text

PAGE_FILE = "report.html"


def add_commands(commands: Commands) -> None:
    """Add the one command of this package."""
    add_arguments(commands.add_parser("report", help="report one run: tables and report.html"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("folder", type=Path, help="run folder with run.json and results.csv")
    parser.set_defaults(run=report_command)


def report_command(options: argparse.Namespace) -> None:
    """Print the results of a run and write its page.

    Raises:
        DataError: the folder cannot be reported; nothing is written.
    """
    # Imported here, as help should not wait seconds for matplotlib.
    from report.console import console_text
    from report.numbers.analysis import analyse
    from report.page.render import render_page
    from report.run.folder import read_run

    analysis = analyse(read_run(options.folder))
    target = options.folder / PAGE_FILE
    write_text(target, render_page(analysis))
    print(console_text(analysis))
    print(f"\nwritten: {target}")
