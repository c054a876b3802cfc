"""The command ``fedi2i report``: print the results of a run, write ``report.html`` and figures."""

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
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="FOLDER",
        help="also write a strip of pictures and the convergence figure there, as PNG files",
    )
    parser.set_defaults(run=report_command)


def report_command(options: argparse.Namespace) -> None:
    """Print the results of a run, write its page and, where asked for, its figures.

    Raises:
        DataError: the folder cannot be reported; nothing is written.
    """
    # Imported here, as help should not wait seconds for matplotlib.
    from report.console import console_text
    from report.figure_files import figure_files, write_figures
    from report.numbers.analysis import analyse
    from report.page.render import render_page
    from report.run.folder import read_run

    analysis = analyse(read_run(options.folder))
    target = options.folder / PAGE_FILE
    page = render_page(analysis)
    figures = figure_files(analysis, options.figures) if options.figures else {}
    write_text(target, page)
    write_figures(figures)
    print(console_text(analysis))
    print(f"\nwritten: {', '.join(map(str, (target, *figures)))}")
