"""Folders of pFLSynth: pictures whose channels are contrasts, ``<site>/<task>/{train,val,test}``.

A task such as ``T1_T2__FLAIR`` says what a picture holds: two halves, T1 and T2 in red and green of
the left one, FLAIR in green of the right one. A task such as ``T1_T2_FLAIR`` without the double
line is a picture of one half, with the contrasts in red, green and blue. Dalmaz et al., "One model
to unite them all", Medical Image Analysis 94, 2024, doi:10.1016/j.media.2024.103121.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fedi2i.errors import DataError
from fedi2i.site_names import check_site_name
from partitions.layouts.folder_walk import source_folder
from partitions.layouts.found_scans import Found, FoundScan, Recognised, say, some_of
from partitions.layouts.picture_folders import (
    Picture,
    PictureStack,
    find_stacks,
    found_in,
    halves,
    has_splits,
    import_stacks,
    read_picture,
)
from partitions.manifest import SiteManifest
from partitions.readers import Reader

DATASET = "pflsynth"
GREEN = 1
"""The channel of the right half, and of the left one where it holds one contrast alone."""


def import_pflsynth(source: Path, out: Path, task: str | None = None) -> tuple[SiteManifest, ...]:
    """Convert the pictures to NIfTI volumes and write one manifest per site.

    Args:
        source: the folder that holds a folder per site.
        out: the site folders are made here.
        task: the task's folder, the same at every site; None where each site has one.

    Raises:
        DataError: no such folder, several tasks, or a picture that cannot be used; no manifest is
            written then.
    """
    tasks = find_tasks(source, task)
    stacks = [stack for site, folder in tasks.items() for stack in _stacks(site, folder)]
    layouts = {site: folder.name for site, folder in tasks.items()}
    say((*found_in(stacks, ()).problems, *_without_task(source, tasks)))
    places = {picture.parent: layouts[s.site] for s in stacks for picture in s.pictures}
    cut = partial(_cut, tasks=places)
    return import_stacks(stacks, out, DATASET, cut)


def find_tasks(source: Path, task: str | None = None) -> dict[str, Path]:
    """The folder of the task at every site that has it.

    Raises:
        DataError: there is none, or a site has several and none was chosen.
    """
    source_folder(source, "the folder that holds a folder per site")
    found: dict[str, Path] = {}
    for site in sorted(path for path in source.iterdir() if path.is_dir()):
        tasks = [path for path in sorted(site.iterdir()) if task in (None, path.name)]
        tasks = [path for path in tasks if has_splits(path)]
        if len(tasks) > 1:
            names = ", ".join(path.name for path in tasks)
            raise DataError(f"{site}: has several tasks ({names}); choose one with --task")
        if tasks:
            check_site_name(site.name, str(site))
            found[site.name] = tasks[0]
    if not found:
        raise DataError(
            f"{source}: no folder like <site>/T1_T2__FLAIR/train with pictures in it"
            + (f" for the task '{task}'" if task else "")
        )
    return found


def contrasts(task: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sequences of the left half and of the right one, from the task's name.

    Raises:
        DataError: it does not name two contrasts or more.
    """
    left, _, right = (part.strip("_").lower() for part in task.partition("__"))
    names = (tuple(left.split("_")), tuple(right.split("_")) if right else ())
    both = [*names[0], *names[1]]
    if len(both) < 2 or len(set(both)) < len(both) or not all(both) or len(names[0]) > 3:
        raise DataError(
            f"task '{task}': its name does not say which contrasts the channels are; call the "
            "folder like T1_T2__FLAIR"
        )
    return names


def recognise(folder: Path) -> Recognised | None:
    """What a folder in this layout holds."""
    places = [path for path in folder.glob("*/*_*") if has_splits(path)]
    if not places or has_splits(folder):
        return None
    tasks: dict[str, set[str]] = {}
    for path in places:
        tasks.setdefault(path.parent.name, set()).add(path.name)
    several = any(len(names) > 1 for names in tasks.values())
    task = _most_frequent(name for names in tasks.values() for name in names) if several else None
    scans: list[FoundScan] = []
    chosen = find_tasks(folder, task)
    for site, path in chosen.items():
        left, right = contrasts(path.name)
        scans += found_in(_stacks(site, path), (*left, *right)).scans
    given = () if task is None else ("--task", task)
    found = Found(tuple(scans), _without_task(folder, chosen))
    return Recognised(found, ("--source", str(folder), *given))


def _most_frequent(tasks: Iterable[str]) -> str:
    """The task that most sites have, the first of their names where several are as frequent."""
    counts = Counter(tasks)
    return min(counts, key=lambda name: (-counts[name], name))


def _without_task(source: Path, chosen: Iterable[str]) -> tuple[str, ...]:
    """A sentence about the sites that have tasks, but not the one that was chosen."""
    sites = {path.parent.name for path in source.glob("*/*") if has_splits(path)}
    others = sorted(sites - set(chosen))
    if not others:
        return ()
    return (
        f"{len(others)} sites have other tasks than the chosen one and are left out: "
        f"{some_of(others)}",
    )


def _stacks(site: str, folder: Path) -> Sequence[PictureStack]:
    return [replace(stack, site=site) for stack in find_stacks(folder, site)]


def _cut(path: Path, tasks: dict[Path, str]) -> dict[str, Picture]:
    left, right = contrasts(tasks[path.parent])
    picture = read_picture(path)
    if picture.ndim != 3 or picture.shape[2] < max(len(left), GREEN + 1):
        raise DataError(
            f"{path}: has {picture.shape[2] if picture.ndim == 3 else 1} channels, too few for "
            f"{', '.join(left)}"
        )
    if not right:
        return {name: picture[..., channel] for channel, name in enumerate(left)}
    one, other = halves(picture, path)
    first = 0 if len(left) > 1 else GREEN
    found = {name: one[..., first + channel] for channel, name in enumerate(left)}
    at = 0 if len(right) > 1 else GREEN
    return {**found, **{name: other[..., at + channel] for channel, name in enumerate(right)}}


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", type=Path, required=True, help="the folder that holds a folder per site"
    )
    parser.add_argument("--task", help="the task's folder, where a site has several")


READER = Reader(
    help="pictures of pFLSynth, whose channels are contrasts",
    add_options=_add_options,
    bring_in=lambda options: import_pflsynth(options.source, options.out, options.task),
    out=Path("data/pflsynth"),
    settings=("spacing=null", "size=[256,256]"),
    layout="pictures in <site>/T1_T2__FLAIR/train (pFLSynth)",
    recognise=recognise,
)
