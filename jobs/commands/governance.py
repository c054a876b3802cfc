"""``fedi2i governance``: begin the documents that a data protection officer needs."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedi2i.commands import Commands
from fedi2i.errors import ConfigError
from fedi2i.typed_config import merged
from jobs.commands.job_folders import committed_job
from jobs.commands.settings import read_settings


def add_governance(commands: Commands) -> None:
    """Add ``governance``."""
    parser = commands.add_parser(
        "governance", help="begin an impact assessment and a record of processing activities"
    )
    parser.add_argument(
        "source", type=Path, help="an experiment's YAML file, or the folder of a finished run"
    )
    parser.add_argument("--job", help="with a file: as this job, e.g. fedavg_dp, would run it")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="with a file: a setting of the experiment; may be repeated",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the documents")
    parser.add_argument("--replace", action="store_true", help="write over documents there")
    parser.set_defaults(run=governance)


def governance(options: argparse.Namespace) -> None:
    """Write both documents.

    Raises:
        UserError: the source cannot be read, or documents are there already.
    """
    # Imported here, as a mistake in the command line should not wait for jinja2 and NVFlare.
    from jobs.governance.documents import write
    from jobs.governance.facts import of_experiment, of_run
    from jobs.writing.federation import read_federated_experiment

    source: Path = options.source
    if source.is_dir():
        if options.job or options.settings:
            raise ConfigError(f"{source}: is a finished run, which --job and --set cannot change")
        processing = of_run(source)
    else:
        changes = {"experiment": read_settings(options.settings)}
        if options.job:
            changes = merged(committed_job(options.job), changes)
        job = read_federated_experiment(source, changes, fit_rounds=True)
        processing = of_experiment(options.job or source.stem, job)
    for path in write(processing, options.out, options.replace):
        open_items = path.read_text(encoding="utf-8").split("## Open items")[1].strip()
        print(f"wrote {path}: {len(open_items.splitlines())} open items for a person")
