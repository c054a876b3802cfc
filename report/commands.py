"""The command ``fedi2i report``: print the results of a run, write its page and figures."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from fedi2i.commands import Commands
from fedi2i.errors import ConfigError
from fedi2i.files import PRIVATE_FILE, private_folder, write_text


def add_commands(commands: Commands) -> None:
    """Add the one command of this package."""
    add_arguments(
        commands.add_parser("report", help="write tables, figures and a page from a run's files")
    )


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
    from report.document.files import FOLDER, write_files
    from report.document.outputs import PAGE, run_outputs
    from report.figure_files import figure_files, write_figures
    from report.numbers.analysis import analyse
    from report.run.folder import read_run

    other = _other_report(options.folder)
    if other is not None:
        if options.figures:
            raise ConfigError(
                "--figures: is for the folder of a comparison; the figures of a study or an audit "
                "are on its page: leave this out"
            )
        return other(options.folder)
    analysis = analyse(read_run(options.folder))
    outputs = run_outputs(analysis)
    figures = figure_files(analysis, options.figures) if options.figures else {}
    write_files(options.folder, outputs)
    write_figures(figures)
    print(console_text(analysis))
    written = (options.folder / PAGE, options.folder / FOLDER, *figures)
    print(f"\nwritten: {', '.join(map(str, written))}")


def _other_report(folder: Path) -> Callable[[Path], None] | None:
    """What reports a folder that holds something else than one comparison."""
    from report.run.audit import is_audit
    from report.run.federated import is_federated
    from report.run.levels import has_levels
    from report.run.matching import is_matching
    from report.run.study import is_study

    kinds: dict[Callable[[Path], bool], Callable[[Path], None]] = {
        is_matching: report_matching,
        has_levels: report_levels,
        is_federated: report_federated,
        is_study: report_study,
        is_audit: report_audit,
    }
    return next((report for is_one, report in kinds.items() if is_one(folder)), None)


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
    """Write the page, tables and figures of a study at several levels; print what it shows.

    Raises:
        DataError: no level of it can be used; nothing is written.
    """
    from report.document.files import FOLDER, write_files
    from report.document.outputs import PAGE, levels_outputs
    from report.numbers.over_seeds.levels import analyse_levels
    from report.page.studies.levels import levels_summary
    from report.run.levels import read_levels

    study = read_levels(folder)
    analysis = analyse_levels(study)
    write_files(folder, levels_outputs(analysis))
    print("\n\n".join([*levels_summary(analysis), *(f"! {gap}" for gap in study.gaps)]))
    print(f"\nwritten: {folder / PAGE}, {folder / FOLDER}")


def report_federated(folder: Path) -> None:
    """Write the page and the tables of a study that ran in a federation; print what was told.

    Raises:
        DataError: its files are damaged, or no site has told of anything; nothing is written.
    """
    from report.document.files import FOLDER, write_files
    from report.document.outputs import PAGE, federated_outputs
    from report.numbers.over_seeds.federated import gaps
    from report.page.studies.federated import federated_summary
    from report.run.federated import read_federated

    study = read_federated(folder)
    write_files(folder, federated_outputs(study))
    print("\n\n".join([*federated_summary(study), *(f"! {gap}" for gap in gaps(study))]))
    print(f"\nwritten: {folder / PAGE}, {folder / FOLDER}")


def report_study(folder: Path) -> None:
    """Write the page of a study and all that goes with it; print what its primary outcome says.

    Without the package typst there is no PDF, and a sentence says how to install it.

    Raises:
        DataError: no run of it can be used; nothing is written.
    """
    from report.document.files import FOLDER, write_files
    from report.document.outputs import PAGE, PDF, study_outputs
    from report.document.pdf import MISSING, typst_package
    from report.numbers.over_seeds.study import analyse_study
    from report.page.studies.study import study_summary
    from report.run.study import read_study

    study = read_study(folder)
    analysis = analyse_study(study)
    outputs = study_outputs(analysis, typst_package())
    write_files(folder, outputs)
    if PDF not in outputs:
        # an earlier one would not fit the page
        (folder / PDF).unlink(missing_ok=True)
    print("\n\n".join([*study_summary(analysis), *(f"! {gap}" for gap in study.gaps)]))
    written = [path for path in (PAGE, PDF, FOLDER) if path in outputs or path == FOLDER]
    print(f"\nwritten: {', '.join(str(folder / path) for path in written)}")
    if PDF not in outputs:
        print(MISSING)


def report_matching(folder: Path) -> None:
    """Write a matching study's page, tables and figures; print how its questions were answered.

    Raises:
        DataError: the study is not finished or damaged; nothing is written.
    """
    from report.document.files import FOLDER, write_files
    from report.document.outputs import PAGE, matching_outputs
    from report.page.studies.matching import console_lines
    from report.run.matching import read_matching

    study = read_matching(folder)
    write_files(folder, matching_outputs(study))
    print("\n".join(console_lines(study)))
    print(f"\nwritten: {folder / PAGE}, {folder / FOLDER}")
