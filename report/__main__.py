"""Command line: ``python -m report runs/demo`` prints the results and writes ``report.html``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from report.analysis import analyse
from report.console import console_tables
from report.errors import ReportError
from report.page import render_page, write_page
from report.run_folder import read_run
from report.strategy_verdicts import verdict_sentences

USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after one sentence about what is wrong with the run."""
    parser = argparse.ArgumentParser(
        prog="python -m report", description="Report one run: console table and report.html."
    )
    parser.add_argument("folder", type=Path, help="run folder with run.json and results.csv")
    options = parser.parse_args(arguments)
    try:
        analysis = analyse(read_run(options.folder))
        page = render_page(analysis)
        target = options.folder / "report.html"
        write_page(target, page)
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    print(console_tables(analysis.tables))
    for text, alarming in verdict_sentences(analysis.actions):
        if alarming:
            print(f"\n! {text}")
    print(f"\nwritten: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
