"""``study``: a comparison over several seeds, whose outcome was named before it began."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fedi2i.commands import Commands
from fedi2i.errors import ConfigError
from jobs.commands.settings import add_launcher_option, seeds_from
from jobs.running.studies.holding import held

if TYPE_CHECKING:
    from jobs.running.studies.in_federation import Federation


class StudyOptions(Protocol):
    """What ``study`` is told."""

    file: Path
    data: Path
    out: Path | None
    seeds: str
    at_once: int | None
    launcher: str
    federation: Path | None
    connect: Connect | None


Connect = Callable[[Path], "Federation"]
"""From a person's kit to the running federation that it opens."""


def add_study(commands: Commands, connect: Connect | None = None) -> None:
    """Add ``study``.

    Args:
        commands: where.
        connect: opens a running federation; without it studies run in the simulator alone.
    """
    parser = commands.add_parser("study", help="run every arm of an experiment with several seeds")
    parser.add_argument("file", type=Path, metavar="STUDY", help="YAML file, see jobs/studies")
    parser.add_argument("--data", type=Path, default=Path("data/demo"), help="by default data/demo")
    parser.add_argument("--out", type=Path, help="by default runs/study-<name of the file>")
    parser.add_argument("--seeds", default="", help="in the place of the file's, e.g. 101,102,103")
    parser.add_argument(
        "--at-once", type=int, help="processes that train, or jobs that run, at the same time"
    )
    add_launcher_option(parser)
    parser.add_argument(
        "--federation",
        type=Path,
        metavar="KIT",
        help="run in the running federation that this person's kit opens, not in the simulator",
    )
    parser.set_defaults(run=study, connect=connect)


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

    if options.federation is not None:
        _run_in_federation(options, seeds, out)
        return
    file, data, at_once, launcher = options.file, options.data, options.at_once, options.launcher
    if is_matching_study(file):
        if launcher:
            raise ConfigError("--launcher: a matching study trains on one machine; leave this out")
        run_matching_study(read_matching_study(file, seeds), data, out, at_once)
    elif has_levels(file):
        run_levels(read_levels(file, seeds), data, out, at_once, launcher)
    else:
        run_study(read_study(file, seeds), data, out, at_once, launcher)


def _run_in_federation(options: StudyOptions, seeds: Sequence[int], out: Path) -> None:
    """Run the federated arms of an ordinary study, and each site's own."""
    from jobs.running.matching.plan import is_matching_study
    from jobs.running.studies.in_federation import run_in_federation
    from jobs.running.studies.levels import has_levels
    from jobs.running.studies.study import read_study

    kit, file = options.federation, options.file
    if kit is None or options.connect is None:
        raise ConfigError("--federation: this command knows no running federation")
    if not (kit / "startup").is_dir():
        raise ConfigError(f"--federation {kit}: is no kit; give the folder that holds 'startup'")
    if options.launcher:
        raise ConfigError("--launcher: runs arms of the simulator; leave it out")
    if is_matching_study(file) or has_levels(file):
        raise ConfigError(
            f"{file}: a study with levels or of kind 'matching' runs in the simulator alone"
        )
    run_in_federation(read_study(file, seeds), file.stem, options.connect(kit), out)
