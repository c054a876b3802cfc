"""The command ``fedi2i report``: print the results of a run and write ``report.html``."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedi2i.commands import Commands


def add_commands(commands: Commands) -> None:
    """Add the one command of this package."""
    add_arguments(commands.add_parser("report", help="report one run: tables and report.html"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("folder", type=Path, help="run folder with run.json and results.csv")
    parser.set_defaults(run=report_command)


def report_command(options: argparse.Namespace) -> None:
    """Print the results of a run and write its page."""
    # Imported here, as help should not wait seconds for matplotlib.
    from report.analysis import analyse
    from report.console import console_tables
    from report.page import render_page, write_page
    from report.run_folder import read_run
    from report.strategy_verdicts import verdict_sentences

    analysis = analyse(read_run(options.folder))
    target = options.folder / "report.html"
    write_page(target, render_page(analysis))
    print(console_tables(analysis.tables))
    for text, alarming in verdict_sentences(analysis.actions):
        if alarming:
            print(f"\n! {text}")
    print(f"\nwritten: {target}")
