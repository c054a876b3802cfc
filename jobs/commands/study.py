"""``study``: a comparison over several seeds, whose outcome was named before it began."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from fedi2i.commands import Commands
from fedi2i.errors import ConfigError
from jobs.commands.settings import add_launcher_option, seeds_from
from jobs.running.studies.holding import held


class StudyOptions(Protocol):
    """What ``study`` is told."""

    file: Path
    data: Path
    out: Path | None
    seeds: str
    at_once: int | None
    launcher: str


def add_study(commands: Commands) -> None:
    """Add ``study``."""
    parser = commands.add_parser("study", help="run every arm of an experiment with several seeds")
    parser.add_argument("file", type=Path, metavar="STUDY", help="YAML file, see jobs/studies")
    parser.add_argument("--data", type=Path, default=Path("data/demo"), help="by default data/demo")
    parser.add_argument("--out", type=Path, help="by default runs/study-<name of the file>")
    parser.add_argument("--seeds", default="", help="in the place of the file's, e.g. 101,102,103")
    parser.add_argument(
        "--at-once", type=int, help="processes that train, or jobs that run, at the same time"
    )
    add_launcher_option(parser)
    parser.set_defaults(run=study)


def study(options: StudyOptions) -> None:
    """Run what is not finished of a study."""
    seeds = seeds_from(options.seeds) if options.seeds else ()
    out = options.out or Path("runs") / f"study-{options.file.stem}"
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file; name a folder")
    with held(out):
        _run(options, seeds, out)
    print(f"wrote {out}; the page: fedi2i report {out}")


def _run(options: StudyOptions, seeds: Sequence[int], out: Path) -> None:
    """Run the kind of study that the file describes."""
    # Imported here, as a mistake in the command line should not wait seconds for torch.
    from jobs.running.matching.plan import is_matching_study, read_matching_study
    from jobs.running.matching.run import run_matching_study
    from jobs.running.studies.levels import has_levels, read_levels, run_levels
    from jobs.running.studies.study import read_study, run_study

    file, data, at_once, launcher = options.file, options.data, options.at_once, options.launcher
    if is_matching_study(file):
        if launcher:
            raise ConfigError("--launcher: a matching study trains on one machine; leave this out")
        run_matching_study(read_matching_study(file, seeds), data, out, at_once)
    elif has_levels(file):
        run_levels(read_levels(file, seeds), data, out, at_once, launcher)
    else:
        run_study(read_study(file, seeds), data, out, at_once, launcher)
