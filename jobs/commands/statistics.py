"""``statistics``: write a job that says how unlike the sites are, without their data."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedi2i.commands import Commands
from fedi2i.typed_config import check_values, merged
from jobs.commands.settings import add_experiment_options, read_settings
from jobs.writing.export import write_job
from jobs.writing.federation import read_federated_experiment
from jobs.writing.statistics_job import RESULT, StatisticsSettings, statistics_files


def add_statistics(commands: Commands) -> None:
    """Add ``statistics``."""
    defaults = StatisticsSettings()
    parser = commands.add_parser("statistics", help="write a job of federated statistics")
    parser.add_argument(
        "--out", type=Path, required=True, help="job folder; its name is the job's name"
    )
    add_experiment_options(parser)
    parser.add_argument("--sites", help="comma-separated names, e.g. CS,DU,HT")
    parser.add_argument("--dataset", help="data set name, as the sites map it")
    parser.add_argument("--min-sites", type=int, help="fewest sites that must answer")
    parser.add_argument(
        "--least-patients",
        type=int,
        default=defaults.min_count,
        help=f"of a site that gives numbers; by default {defaults.min_count}",
    )
    parser.add_argument(
        "--bins", type=int, default=defaults.bins, help=f"of histograms; by default {defaults.bins}"
    )
    parser.set_defaults(run=statistics)


def statistics(options: argparse.Namespace) -> None:
    """Write one job folder."""
    settings = StatisticsSettings(min_count=options.least_patients, bins=options.bins)
    check_values(settings, "fedi2i jobs statistics")
    federation = {"min_sites": options.min_sites} if options.min_sites is not None else {}
    if options.sites:
        federation |= {"sites": options.sites.split(","), "unseen": []}
    data = {"data": {"dataset": options.dataset}} if options.dataset else {}
    changes = merged(
        {"experiment": read_settings(options.settings)},
        {"experiment": data},
        {"federation": federation},
    )
    job = read_federated_experiment(options.experiment, changes)
    out = write_job(statistics_files(options.out.name, job, settings), options.out)
    print(f"wrote {out}: {', '.join(job.federation.sites)}")
    print(f"then: fedi2i data heterogeneity --federated <run>/server/.../{RESULT} --out page.html")
