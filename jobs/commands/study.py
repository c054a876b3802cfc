"""``study``: a comparison over several seeds, whose outcome was named before it began."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from fedi2i.commands import Commands
from fedi2i.errors import ConfigError
from jobs.commands.settings import seeds_from


class StudyOptions(Protocol):
    """What ``study`` is told."""

    file: Path
    data: Path
    out: Path | None
    seeds: str
    at_once: int | None


def add_study(commands: Commands) -> None:
    """Add ``study``."""
    parser = commands.add_parser("study", help="run every arm of an experiment with several seeds")
    parser.add_argument("file", type=Path, metavar="STUDY", help="YAML file, see jobs/studies")
    parser.add_argument("--data", type=Path, default=Path("data/demo"), help="by default data/demo")
    parser.add_argument("--out", type=Path, help="by default runs/study-<name of the file>")
    parser.add_argument("--seeds", default="", help="in the place of the file's, e.g. 101,102,103")
    parser.add_argument("--at-once", type=int, help="processes that train at the same time")
    parser.set_defaults(run=study)


def study(options: StudyOptions) -> None:
    """Run what is not finished of a study."""
    # Imported here, as a mistake in the command line should not wait seconds for torch.
    from jobs.running.study import read_study, run_study
    from jobs.running.study_levels import has_levels, read_levels, run_levels

    seeds = seeds_from(options.seeds) if options.seeds else ()
    out = options.out or Path("runs") / f"study-{options.file.stem}"
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file; name a folder")
    if has_levels(options.file):
        run_levels(read_levels(options.file, seeds), options.data, out, options.at_once)
    else:
        run_study(read_study(options.file, seeds), options.data, out, options.at_once)
    print(f"wrote {out}; the page: fedi2i report {out}")
