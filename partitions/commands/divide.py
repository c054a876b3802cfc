"""``divide``: form hospitals from the patients of one or several site folders."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedi2i.commands import Commands
from fedi2i.errors import ConfigError
from fedi2i.typed_config import check_values, merged, record_from, settings_of
from partitions.commands.manifests import SEED, found_settings, print_next, site_table

if TYPE_CHECKING:
    from partitions.divisions.dividing import Division
    from partitions.preparation.corrections.shifts import Shift


def add_divide(commands: Commands) -> None:
    """Add ``divide``."""
    parser = commands.add_parser("divide", help="form sites from the patients of others")
    parser.add_argument(
        "sources", type=Path, nargs="+", metavar="DIR", help="manifests, site folders or above"
    )
    parser.add_argument(
        "--by",
        required=True,
        metavar="RULE",
        help="e.g. age, sex, dirichlet; docs/divisions.md lists all",
    )
    parser.add_argument(
        "--setting", action="append", default=[], metavar="KEY=VALUE", help="of the rule"
    )
    parser.add_argument("--out", type=Path, required=True, help="site folders are made here")
    parser.add_argument("--dataset", help="its name for jobs; by default <data set>-<RULE>")
    parser.add_argument("--seed", type=int, default=SEED, help="of rule, splits and shifts")
    parser.add_argument("--least", type=int, default=3, help="patients of a site; by default 3")
    parser.add_argument(
        "--small",
        choices=("refuse", "leave-out"),
        default="refuse",
        help="what becomes of smaller sites",
    )
    parser.add_argument(
        "--splits",
        choices=("redrawn", "kept"),
        default="redrawn",
        help="whether patients keep their splits; by default drawn anew within each site",
    )
    parser.add_argument(
        "--shift",
        action="append",
        default=[],
        metavar="SITE:KIND=SEVERITY",
        help="change a site's images when they are prepared, e.g. site-2:noise=0.5",
    )
    parser.add_argument(
        "--folds", action="store_true", help="write experiment files that leave one site out"
    )
    parser.set_defaults(run=_divide)


def read_shifts(texts: Sequence[str], seed: int) -> dict[str, Shift]:
    """What ``--shift`` says, by site.

    Raises:
        ConfigError: a text without site or kind, an unknown kind, or a severity out of range.
    """
    # Imported here, as scipy takes a while.
    from partitions.preparation.corrections.shifts import Shift

    by_site: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        site, separator, setting = text.partition(":")
        if not separator or not site:
            raise ConfigError(f"--shift {text}: write SITE:KIND=SEVERITY, e.g. site-2:noise=0.5")
        by_site[site].append(setting)
    shifts = {}
    for site, settings in by_site.items():
        where = f"--shift of '{site}'"
        values = {"seed": seed, **settings_of(settings, where, "noise=0.5")}
        shifts[site] = record_from(Shift, values, where)
        check_values(shifts[site], where)
    return shifts


def _divide(options: argparse.Namespace) -> None:
    # Imported here, as the other commands have no use for it.
    from partitions.divisions.dividing import divide
    from partitions.divisions.folders import Wanted, read_sources, write_division
    from partitions.divisions.patients import patients_of
    from partitions.divisions.rules.catalogue import named_rule

    rule, implied = named_rule(options.by)
    settings = merged(implied, settings_of(options.setting, "--setting", "sites=4"))
    shifts = read_shifts(options.shift, options.seed)
    sources = read_sources(options.sources, options.out)
    division = divide(
        patients_of(sources), rule, settings, options.seed, options.least, options.small
    )
    manifests = write_division(
        division,
        sources,
        Wanted(
            out=options.out,
            dataset=options.dataset or f"{sources[0].dataset}-{options.by}",
            seed=options.seed,
            keep_splits=options.splits == "kept",
            shifts=shifts,
            folds=options.folds,
        ),
    )
    print(site_table(manifests))
    print(summary(division))
    print_next(options.out, found_settings(manifests))


def summary(division: Division) -> str:
    """Who was divided and who was not, in a sentence or two."""
    assignment = division.assignment
    count = sum(map(len, assignment.sites.values()))
    drawn = f" in draw {assignment.tries}" if assignment.tries > 1 else ""
    lines = [f"by {division.rule}: {count} patients at {len(assignment.sites)} sites{drawn}"]
    lines += [
        f"left over: {number} patient{'s' if number > 1 else ''} with {reason}"
        for reason, number in _items(assignment.left_over)
    ]
    return "\n".join(lines)


def _items(counts: Any) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
