"""Folders of SynDiff: MATLAB files ``data_<split>_<contrast>.mat`` with an array ``data_fs``.

The array has the axes (images, width, height) and values from 0 to 1. Nothing says whose images
they are, so each split of a folder counts as one subject, unless ``--slices`` says how many images
each patient has. Özbey et al., "Unsupervised Medical Image Translation with Adversarial Diffusion
Models", IEEE TMI 42, 2023, arXiv:2207.08208.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import ConfigError, DataError
from fedi2i.site_names import check_site_name
from partitions.layouts.folder_walk import source_folder
from partitions.layouts.found_scans import Found, FoundScan, Recognised, say
from partitions.layouts.hdf5_files import opened
from partitions.layouts.stacks import write_stack
from partitions.manifest import SPLITS, UNKNOWN_VOXEL_SIZE, SiteManifest, SubjectRecord
from partitions.readers import Reader
from partitions.site_folders import write_site_folders
from partitions.withdrawn_patients import is_withdrawn

DATASET = "syndiff"
ARRAY = "data_fs"

_FILE = re.compile(r"data_(train|val|test)_([A-Za-z0-9-]+)\.mat")


@dataclass(frozen=True)
class SplitFiles:
    """The files of one site and split, by contrast in lower case."""

    site: str
    split: str
    files: Mapping[str, Path]


def find_splits(source: Path, site: str | None = None) -> tuple[SplitFiles, ...]:
    """Find the files of one site, or of a folder per site.

    Raises:
        DataError: there is no such folder, or no file in it.
        ConfigError: a folder has a name that no site can have.
    """
    source_folder(source, "the folder with the files data_train_T1.mat ...")
    folders = {site or source.resolve().name: source} if _files(source) else {}
    if not folders:
        folders = {p.name: p for p in sorted(source.iterdir()) if p.is_dir() and _files(p)}
    if not folders:
        raise DataError(f"{source}: no file like data_train_T1.mat, in it or one folder below")
    found = []
    for name, folder in folders.items():
        check_site_name(name, str(folder))
        files = _files(folder)
        found += [SplitFiles(name, s, files[s]) for s in SPLITS if s in files]
    return tuple(found)


def import_syndiff(
    source: Path, out: Path, slices: int | None = None, site: str | None = None
) -> tuple[SiteManifest, ...]:
    """Convert the arrays to NIfTI volumes and write one manifest per site.

    Args:
        source: the folder with the files, or one with a folder per site.
        out: the site folders are made here.
        slices: images of each patient, who follow each other in the array; None where it is not
            known.
        site: the site of a folder that holds the files itself; None for the folder's name.

    Raises:
        ConfigError: ``slices`` is below 1.
        DataError: a file cannot be used; no manifest is written then.
    """
    if slices is not None and slices < 1:
        raise ConfigError(f"--slices {slices}: write how many images each patient has")
    found = find_splits(source, site)
    if slices is None:
        say(_found(found).problems)
    records = [record for files in found for record in _written(files, out, slices)]
    return write_site_folders(out, DATASET, records, seed=0)


def recognise(folder: Path) -> Recognised | None:
    """What a folder in this layout holds; no file is opened."""
    if not _files(folder) and not any(p.is_dir() and _files(p) for p in folder.iterdir()):
        return None
    return Recognised(_found(find_splits(folder)), ("--source", str(folder)))


def _found(splits: tuple[SplitFiles, ...]) -> Found:
    scans = [FoundScan(s.split, s.split, s.site, s.files, split=s.split) for s in splits]
    return Found(
        tuple(scans),
        (
            "the files do not say whose images they hold, and each split counts as one subject; "
            "--slices N divides it where every patient has N images",
        ),
    )


def _files(folder: Path) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = _FILE.fullmatch(path.name)
        if match:
            found.setdefault(match[1], {})[match[2].lower()] = path
    return found


def _written(split: SplitFiles, out: Path, slices: int | None) -> Iterator[SubjectRecord]:
    counts = {name: _count(path) for name, path in split.files.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(
            f"{next(iter(split.files.values())).parent}: the contrasts of '{split.split}' hold "
            f"different numbers of images ({said}); they must show the same slices"
        )
    (count, *_) = counts.values()
    each = slices or count
    if count % each:
        raise DataError(
            f"{next(iter(split.files.values()))}: holds {count} images, which are not whole "
            f"patients of {each}; correct --slices"
        )
    for number, start in enumerate(range(0, count, each), start=1):
        subject = split.split if each == count else f"{split.split}{number:04d}"
        files = {name: f"{subject}/{name}.nii.gz" for name in split.files}
        if not is_withdrawn(out / split.site, subject):
            for name, path in split.files.items():
                images = _images(path, start, start + each)
                write_stack(out / split.site / files[name], images)
        yield SubjectRecord(
            subject, split.site, split.split, files, metadata=dict(UNKNOWN_VOXEL_SIZE)
        )


def _count(path: Path) -> int:
    with opened(path) as file:
        return int(_array(file, path).shape[0])


def _images(path: Path, start: int, end: int) -> NDArray[np.float32]:
    """Some images, (images, rows, columns); only they are read."""
    with opened(path) as file:
        images = np.asarray(_array(file, path)[start:end], dtype=np.float32)
    return images.transpose(0, 2, 1)


def _array(file: Any, path: Path) -> Any:
    if ARRAY not in file or file[ARRAY].ndim != 3:
        raise DataError(
            f"{path}: holds no array '{ARRAY}' of images x width x height; is it of SynDiff?"
        )
    return file[ARRAY]


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        type=Path,
        required=True,
        help="the folder of the files, or of a folder per site",
    )
    parser.add_argument("--slices", type=int, help="images of each patient, where all have as many")
    parser.add_argument(
        "--site", help="of a folder that holds the files itself; by default its name"
    )


READER = Reader(
    help="MATLAB files of SynDiff",
    add_options=_add_options,
    bring_in=lambda options: import_syndiff(
        options.source, options.out, options.slices, options.site
    ),
    out=Path("data/syndiff"),
    settings=("spacing=null", "size=[256,256]"),
    layout="files like data_train_T1.mat (SynDiff)",
    recognise=recognise,
)
