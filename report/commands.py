"""The command ``fedi2i report``: print the results of a run, write its page and figures."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedi2i.commands import Commands
from fedi2i.errors import ConfigError
from fedi2i.files import PRIVATE_FILE, private_folder, write_text

PAGE_FILE = "report.html"


def add_commands(commands: Commands) -> None:
    """Add the one command of this package."""
    add_arguments(commands.add_parser("report", help="report one run: tables and report.html"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("folder", type=Path, help="folder of a comparison, a study or an audit")
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
    from report.run.audit import is_audit
    from report.run.folder import read_run
    from report.run.levels import has_levels
    from report.run.study import is_study

    if has_levels(options.folder):
        if options.figures:
            raise ConfigError("--figures: the figure of levels is on their page; leave this out")
        return report_levels(options.folder)
    if is_study(options.folder):
        if options.figures:
            raise ConfigError("--figures: the figures of a study are on its page; leave this out")
        return report_study(options.folder)
    if is_audit(options.folder):
        if options.figures:
            raise ConfigError("--figures: an audit's figure is on its page; leave this out")
        return report_audit(options.folder)
    analysis = analyse(read_run(options.folder))
    target = options.folder / PAGE_FILE
    page = render_page(analysis)
    figures = figure_files(analysis, options.figures) if options.figures else {}
    write_text(target, page)
    write_figures(figures)
    print(console_text(analysis))
    print(f"\nwritten: {', '.join(map(str, (target, *figures)))}")


def report_audit(folder: Path) -> None:
    """Write the page of an audit, and the page of pictures into the folder that stays at the site.

    Raises:
        DataError: the findings are damaged; nothing is written.
    """
    from report.page.audit import AUDIT_PAGE, PICTURES_PAGE, render_audit, render_pictures, summary
    from report.run.audit import PRIVATE, read_audit, read_pictures

    audit, pictures = read_audit(folder), read_pictures(folder)
    page = render_audit(audit, bool(pictures))
    written = [folder / AUDIT_PAGE]
    if pictures:
        private_folder(folder / PRIVATE)
        written.append(folder / PRIVATE / PICTURES_PAGE)
        write_text(written[-1], render_pictures(audit, pictures), PRIVATE_FILE)
    write_text(folder / AUDIT_PAGE, page)
    print("\n".join(f"- {sentence}" for sentence in summary(audit)))
    print(f"\nwritten: {', '.join(map(str, written))}")


def report_levels(folder: Path) -> None:
    """Write the page of a study at several levels, and print what it shows.

    Raises:
        DataError: no level of it can be used; nothing is written.
    """
    from report.numbers.levels import analyse_levels
    from report.page.levels import levels_summary, render_levels
    from report.run.levels import read_levels

    study = read_levels(folder)
    analysis = analyse_levels(study)
    target = folder / PAGE_FILE
    write_text(target, render_levels(analysis))
    print("\n\n".join([*levels_summary(analysis), *(f"! {gap}" for gap in study.gaps)]))
    print(f"\nwritten: {target}")


def report_study(folder: Path) -> None:
    """Write the page of a study, and print what its primary outcome says.

    Raises:
        DataError: no run of it can be used; nothing is written.
    """
    from report.numbers.study import analyse_study
    from report.page.study import render_study, study_summary
    from report.run.study import read_study

    study = read_study(folder)
    analysis = analyse_study(study)
    target = folder / PAGE_FILE
    write_text(target, render_study(analysis))
    print("\n\n".join([*study_summary(analysis), *(f"! {gap}" for gap in study.gaps)]))
    print(f"\nwritten: {target}")
