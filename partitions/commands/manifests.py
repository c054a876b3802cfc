"""Commands that write or read manifests: ``demo``, one for every reader, and ``check``."""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedi2i.commands import Commands
from fedi2i.errors import DataError
from fedi2i.files import write_text
from partitions.check.manifests import data_set_hash
from partitions.manifest import SPLITS, SiteManifest, split_counts
from partitions.preparation.scaling import is_computed_tomography
from partitions.readers import Reader, load_reader, reader_names
from partitions.site_folders import find_site_folders, find_withdrawn

SEED = 2026
COMPUTED = {"mr": "demo", "mr-ct": "mr_ct", "cbct-ct": "cbct_ct", "ldct": "ldct_computed"}
"""The tasks with a computed cohort, and their data sets; named here so that no other command
imports what computes them."""
_WINDOW = "{kind: window, low: -1024, high: %d, unit: HU}"
_COMPUTED_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "mr-ct": ("source=t1", "target=ct", f"target_scaling={_WINDOW % 3071}"),
    "cbct-ct": (
        "source=cbct",
        "target=ct",
        f"source_scaling={_WINDOW % 3071}",
        f"target_scaling={_WINDOW % 3071}",
    ),
    "ldct": (
        "source=ct_low",
        "target=ct",
        f"source_scaling={_WINDOW % 1900}",
        f"target_scaling={_WINDOW % 1900}",
    ),
}
_COMPUTED_SIZES: Mapping[tuple[bool, str], tuple[str, ...]] = {
    (False, "demo"): (),
    (False, "smoke"): ("size=[48,40]", "spacing=4.0"),
    (True, "demo"): ("size=[120,96]",),
    (True, "smoke"): ("size=[64,56]", "spacing=4.0"),
}
"""By whether the target is a CT, and the size of the cohort."""


def add_demo(commands: Commands) -> None:
    """Add ``demo``: write the computed demonstration cohort."""
    parser = commands.add_parser("demo", help="compute a demonstration cohort of several sites")
    parser.add_argument("--task", choices=COMPUTED, default="mr", help="by default mr (T1w to T2w)")
    parser.add_argument(
        "--out", type=Path, help="by default data/demo, or data/ and the data set's name"
    )
    parser.add_argument(
        "--size",
        choices=("demo", "smoke"),
        default="demo",
        help="smoke: few subjects, ready in half a minute; by default demo",
    )
    parser.add_argument(
        "--seed", type=int, default=SEED, help=f"of all that is drawn; by default {SEED}"
    )
    parser.set_defaults(run=_demo)


def add_readers(commands: Commands) -> None:
    """Add a command for every reader: bring scans in."""
    for name in reader_names():
        reader = load_reader(name)
        parser = commands.add_parser(name, help=f"bring in {reader.help}")
        reader.add_options(parser)
        place = "site folders are made here" + (f"; by default {reader.out}" if reader.out else "")
        parser.add_argument(
            "--out", type=Path, default=reader.out, required=reader.out is None, help=place
        )
        parser.add_argument(
            "--seed", type=int, default=SEED, help=f"of the split by patient; by default {SEED}"
        )
        parser.set_defaults(run=partial(_bring_in, reader))


def add_check(commands: Commands) -> None:
    """Add ``check``: look at the manifests and scans of a data set and say what is wrong."""
    parser = commands.add_parser("check", help="check the manifests and scans of a data set")
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="DIR", help="site folders or above"
    )
    parser.add_argument(
        "--voxels", action="store_true", help="read every voxel, and not only the headers"
    )
    parser.add_argument(
        "--sequences", metavar="A,B", help="look at these sequences; by default all"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write the findings and pictures as HTML"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="subjects read at a time; by default 2"
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

    out = options.out or Path("data") / COMPUTED[options.task]
    print(f"{options.size} cohort in {out}: computed, not acquired")
    manifests = write_cohort(out, seed=options.seed, size=options.size, task=options.task)
    print(site_table(manifests))
    print_next(out, computed_settings(options.task, options.size))


def _bring_in(reader: Reader, options: argparse.Namespace) -> None:
    print(f"bringing scans into {options.out}")
    manifests = reader.bring_in(options)
    print(site_table(manifests))
    settings = reader.settings
    given = settings(manifests) if callable(settings) else settings
    print_next(options.out, given or found_settings(manifests))


def _check(options: argparse.Namespace) -> None:
    # Imported here, as the other commands have no use for it.
    from partitions.check.finding import ERROR, errors_in, refuse
    from partitions.check.inspection import Plan, inspect
    from partitions.check.results import as_json, as_page, console_text, summary

    found = {path.resolve(): path for root in options.folders for path in find_site_folders(root)}
    sequences = tuple(options.sequences.split(",")) if options.sequences else None
    plan = Plan(options.voxels, options.page is not None, sequences, max(1, options.workers))
    withdrawn = [path for root in options.folders for path in find_withdrawn(root)]
    inspection = inspect(list(found.values()), plan, _with_bar, withdrawn)
    print(site_table(inspection.manifests))
    print(console_text(inspection), end="\n" if inspection.findings else "")
    print(summary(inspection))
    for path, write in ((options.json, as_json), (options.page, as_page)):
        if path is not None:
            write_text(path, write(inspection))
            print(f"wrote {path}")
    errors = errors_in(inspection.findings)
    if len(errors) > 1:
        raise DataError(
            f"{len(errors)} findings would stop the preparation, listed above; the first: "
            f"{errors[0].text()}"
        )
    refuse(errors)
    dataset, hash_ = inspection.manifests[0].dataset, data_set_hash(inspection.manifests)
    print(f"data set '{dataset}', hash {hash_}; no {ERROR} found")


def _with_bar(results: Iterable[Any], count: int) -> Iterable[Any]:
    """Show how many subjects' voxels have been read."""
    from tqdm import tqdm

    bar: Iterable[Any] = tqdm(
        results, total=count, desc="reading voxels", unit="subject", disable=not count
    )
    return bar


def found_settings(manifests: Sequence[SiteManifest]) -> tuple[str, ...]:
    """What ``prepare --set`` has to be told of scans of which no more than the manifests is known.

    T1 and T2 are what preparation takes by itself. Otherwise a CT is the target, if there is one,
    and the sequences that most subjects have come first; a CT keeps its HU.
    """
    records = [record for manifest in manifests for record in manifest.subjects]
    counts = Counter(name for record in records for name in record.files)
    names = [name for name, _ in counts.most_common()]
    pixels = () if all(record.has_voxel_size for record in records) else ("spacing=null",)
    if len(names) < 2 or {"t1", "t2"} <= set(names):
        return pixels
    target = "ct" if "ct" in names else names[1]
    pair = {"source": next(name for name in names if name != target), "target": target}
    return (
        *(f"{domain}={name}" for domain, name in pair.items()),
        *(
            f"{domain}_scaling={_WINDOW % 3071}"
            for domain, name in pair.items()
            if is_computed_tomography(name)
        ),
        *pixels,
    )


def computed_settings(task: str, size: str) -> tuple[str, ...]:
    """What ``prepare --set`` has to be told of a computed cohort, as its experiment file says.

    Args:
        task: a key of `COMPUTED`.
        size: ``demo`` or ``smoke``.
    """
    own = _COMPUTED_SETTINGS.get(task, ())
    return (*own, *_COMPUTED_SIZES[bool(own), size])


def print_next(out: Path, settings: Sequence[str] = ()) -> None:
    """Say which command comes next."""
    given = [part for setting in settings for part in ("--set", setting)]
    print("next:", shlex.join(["fedi2i", "data", "prepare", "--data", str(out), *given]))


def _with_sum(counts: Sequence[int]) -> tuple[str, ...]:
    return (*(str(count) for count in counts), str(sum(counts)))
