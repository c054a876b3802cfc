"""``prepare``: make the memory-mapped cache of every site folder, several sites at a time."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fedi2i.commands import Commands
from fedi2i.errors import DataError, UserError
from fedi2i.typed_config import merged, read_yaml, record_from, settings_of
from partitions.manifest import SPLITS, SiteManifest, read_manifest
from partitions.preparation import PreparationConfig, PreparedSite, PreparedSplit, prepare_site
from partitions.preparation.configuration import DOMAINS
from partitions.preparation.site import find_prepared
from partitions.processes import side_by_side
from partitions.site_folders import find_site_folders

DEFAULT_CACHE = "prepared"


@dataclass(frozen=True)
class Task:
    """One site to prepare."""

    manifest: SiteManifest
    config: PreparationConfig
    cache: Path


def add_prepare(commands: Commands) -> None:
    """Add ``prepare``: make each site's cache."""
    parser = commands.add_parser("prepare", help="make each site's cache for training")
    parser.add_argument("--data", type=Path, required=True, help="a site folder or one above")
    add_preparation_options(parser)
    parser.add_argument("--workers", type=int, default=2, help="sites at a time; by default 2")
    parser.set_defaults(run=_prepare)


def add_preparation_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cache``, ``--config`` and ``--set``."""
    parser.add_argument(
        "--cache", type=Path, help="caches go to CACHE/<site>; by default <site folder>/prepared"
    )
    parser.add_argument("--config", type=Path, help="YAML file with what differs from the defaults")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="a key of preparation, e.g. target=flair; may be repeated",
    )


def read_config(path: Path | None, settings: Sequence[str]) -> PreparationConfig:
    """The configuration: defaults, then the file, then ``key=value`` settings.

    Raises:
        ConfigError: an unknown key, a wrong value, or a setting without ``=``.
    """
    from_file: dict[str, Any] = read_yaml(path) if path is not None else {}
    given = settings_of(settings, "--set", "spacing=1.0")
    where = str(path) if path is not None and not settings else "--set"
    return record_from(PreparationConfig, merged(from_file, given), where)


def _prepare(options: argparse.Namespace) -> None:
    """Prepare every site below the folder; sites that are up to date are only named."""
    config = read_config(options.config, options.settings)
    tasks = []
    for folder in find_site_folders(options.data):
        manifest = read_manifest(folder)
        cache = options.cache / manifest.site if options.cache else folder / DEFAULT_CACHE
        ready = find_prepared(manifest, config, cache)
        if ready is not None:
            print(f"{manifest.site}: up to date: {_summary(ready)}")
        else:
            tasks.append(Task(manifest, config, cache))
    failed = _prepare_all(tasks, max(1, options.workers))
    if failed:
        for error in failed[1:]:
            print(f"error: {error}", file=sys.stderr)
        raise failed[0]


def _prepare_all(tasks: Sequence[Task], workers: int) -> list[UserError]:
    """Prepare all; a site that fails does not stop the others. Return the errors."""
    if not tasks:
        return []
    print(f"preparing {', '.join(task.manifest.site for task in tasks)}", flush=True)
    alone = min(workers, len(tasks)) < 2
    failed: list[UserError] = []
    try:
        for result in side_by_side(partial(_prepare_one, progress=alone), tasks, workers):
            if isinstance(result, UserError):
                failed.append(result)
            else:
                print(f"{result.site}: prepared: {_summary(result)}", flush=True)
    except DataError as error:  # a process was killed; what others said must not be lost
        failed.append(error)
    return failed


def _prepare_one(task: Task, progress: bool) -> PreparedSite | UserError:
    """Prepare one site; with a bar of its subjects unless others would write over it."""
    try:
        return prepare_site(task.manifest, task.config, task.cache, progress=progress)
    except UserError as error:
        return error
    except MemoryError:
        return DataError(
            f"{task.manifest.root}: memory ran out while the site was prepared; close other "
            "programs or give fewer --workers: what is finished is kept"
        )


def _summary(ready: PreparedSite) -> str:
    counts = []
    for name in SPLITS:
        split = ready.split(name)
        counts.append(f"{name} {len(split.subjects)} ({_slices(split)})")
    left_out = f"; {len(ready.skipped)} left out" if ready.skipped else ""
    return f"{', '.join(counts)}{left_out}; {ready.folder}"


def _slices(split: PreparedSplit) -> str:
    """The number of slices, or of each domain's where subjects lack one."""
    whole = len(split.source)
    found = {domain: len(split.slices_with([domain])) for domain in DOMAINS}
    if set(found.values()) == {whole}:
        return f"{whole} slices"
    return " and ".join(f"{count} {domain}" for domain, count in found.items()) + " slices"
