"""Commands that write or read manifests: ``demo``, one for every reader, and ``check``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fedi2i.commands import Commands
from partitions.check.data_set import check_data_set, data_set_hash
from partitions.manifest import SPLITS, SiteManifest, read_manifest, split_counts
from partitions.readers import Reader, load_reader, reader_names
from partitions.site_folders import find_site_folders

SEED = 2026


def add_demo(commands: Commands) -> None:
    """Add ``demo``: write the computed demonstration cohort."""
    parser = commands.add_parser("demo", help="compute a demonstration cohort of several sites")
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="default: data/demo")
    parser.add_argument("--size", choices=("demo", "smoke"), default="demo")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.set_defaults(run=_demo)


def add_readers(commands: Commands) -> None:
    """Add a command for every reader: bring scans in."""
    for name in reader_names():
        reader = load_reader(name)
        parser = commands.add_parser(name, help=reader.help)
        reader.add_options(parser)
        place = "site folders are made here" + (f"; default: {reader.out}" if reader.out else "")
        parser.add_argument(
            "--out", type=Path, default=reader.out, required=reader.out is None, help=place
        )
        parser.add_argument("--seed", type=int, default=SEED, help="of the split by patient")
        parser.set_defaults(run=partial(_bring_in, reader))


def add_check(commands: Commands) -> None:
    """Add ``check``: read all manifests of a data set and refuse what contradicts itself."""
    parser = commands.add_parser("check", help="check all manifests of a data set")
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="DIR", help="site folders or above"
    )
    parser.set_defaults(run=_check)


def site_table(manifests: Sequence[SiteManifest]) -> str:
    """One line per site: subjects per split and the manifest's hash; then the totals."""
    header: tuple[str, ...] = ("site", *SPLITS, "all", "scans", "hash")
    rows = [header]
    totals = [0, 0, 0]
    for manifest in manifests:
        counts = [split_counts(manifest)[split] for split in SPLITS]
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        kind = "computed" if manifest.computed else "acquired"
        rows.append((manifest.site, *_with_sum(counts), kind, manifest.content_hash()[:12]))
    rows.append(("all", *_with_sum(totals), "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _demo(options: argparse.Namespace) -> None:
    # Imported here, as the other commands have no use for it.
    from partitions.computed.cohort import write_cohort

    print(f"{options.size} cohort in {options.out}: computed, not acquired")
    manifests = write_cohort(options.out, seed=options.seed, size=options.size)
    print(site_table(manifests))
    _print_next(options.out)


def _bring_in(reader: Reader, options: argparse.Namespace) -> None:
    print(f"bringing scans into {options.out}")
    print(site_table(reader.bring_in(options)))
    _print_next(options.out, reader.settings)


def _check(options: argparse.Namespace) -> None:
    found = {path.resolve(): path for root in options.folders for path in find_site_folders(root)}
    manifests = [read_manifest(path) for path in found.values()]
    check_data_set(manifests)
    print(site_table(manifests))
    print(f"data set '{manifests[0].dataset}', hash {data_set_hash(manifests)}; no overlap")


def _print_next(out: Path, settings: Sequence[str] = ()) -> None:
    given = [part for setting in settings for part in ("--set", setting)]
    print("next:", shlex.join(["fedi2i", "data", "prepare", "--data", str(out), *given]))


def _with_sum(counts: Sequence[int]) -> tuple[str, ...]:
    return (*(str(count) for count in counts), str(sum(counts)))
