"""The command of this package: print a run's results and write its page."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedi2i.files import write_text

PAGE_FILE = "report.html"


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``report`` to a command line; its ``run`` takes the parsed options."""
    text = "print a run's results and write its report.html"
    parser = subparsers.add_parser("report", help=text, description=text)
    add_arguments(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("folder", type=Path, help="run folder with run.json and results.csv")
    parser.set_defaults(run=report_command)


def report_command(options: argparse.Namespace) -> None:
    """Report one run folder.

    Raises:
        DataError: the folder cannot be reported; nothing is written.
    """
    # imported here, as SciPy and Matplotlib take a second that --help need not wait for
    from report.console import console_text
    from report.numbers.analysis import analyse
    from report.page.render import render_page
    from report.run.folder import read_run

    analysis = analyse(read_run(options.folder))
    page = render_page(analysis)
    target = options.folder / PAGE_FILE
    write_text(target, page)
    print(console_text(analysis))
    print(f"\nwritten: {target}")
