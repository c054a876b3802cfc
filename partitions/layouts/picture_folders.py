"""Folders of PNG pictures as research code trains on: one picture per slice, in train, val, test.

Pictures whose names differ in their last number alone, as ``patient7_12.png`` and
``patient7_13.png``, are slices of one patient. Names such as ``12.png`` or ``slice_12.png`` do not
say whose slices they are; all such pictures of a split count as one subject then, because to count
each as a person would make every test of significance wrong.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedi2i.errors import DataError
from fedi2i.site_names import check_site_name
from partitions.layouts.folder_walk import in_natural_order, source_folder
from partitions.layouts.found_scans import Found, FoundScan
from partitions.layouts.stacks import write_stack
from partitions.manifest import PATIENT_ID, SPLITS, UNKNOWN_VOXEL_SIZE, SiteManifest, SubjectRecord
from partitions.site_folders import write_site_folders
from partitions.withdrawn_patients import is_withdrawn

ENDINGS = (".png", ".jpg", ".jpeg")
Picture = NDArray[Any]
"""Rows, columns, and the channels of a colour picture."""

_SPLIT_NAMES = {"val": ("val", "valid", "validation")}
_SLICE = re.compile(r"(?P<patient>.*\d.*?)[-_ .]+(?:slice[-_ ]?)?\d+", re.IGNORECASE)
"""The name of a slice: whose it is, with a number in it, and the slice's own number."""


@dataclass(frozen=True)
class PictureStack:
    """The pictures of one subject.

    Attributes:
        site: the site.
        split: ``train``, ``val`` or ``test``.
        patient: the part of the names that they have in common; the split where there is none.
        pictures: in the order of their numbers.
    """

    site: str
    split: str
    patient: str
    pictures: tuple[Path, ...]


def find_stacks(source: Path, site: str | None = None) -> tuple[PictureStack, ...]:
    """Find the pictures of one site or several.

    Args:
        source: holds ``train``, ``val`` and ``test``, or a folder per site that holds them.
        site: the site of a folder that holds them itself; None for the folder's name.

    Raises:
        DataError: there is no such folder or no picture in it.
        ConfigError: a folder has a name that no site can have.
    """
    source_folder(source, "the folder that holds 'train' and 'test', or one above")
    folders = {site or source.resolve().name: source} if has_splits(source) else {}
    if not folders:
        folders = {path.name: path for path in sorted(source.iterdir()) if has_splits(path)}
    for name, folder in folders.items():
        check_site_name(name, str(folder))
    found = [stack for name, folder in folders.items() for stack in _stacks(name, folder)]
    if not found:
        raise DataError(
            f"{source}: no pictures in folders '{SPLITS[0]}', '{SPLITS[1]}' and '{SPLITS[2]}', in "
            "it or one below; correct the path"
        )
    return tuple(found)


def has_splits(folder: Path) -> bool:
    """Whether a folder holds pictures for training."""
    train = folder / SPLITS[0]
    return train.is_dir() and any(path.suffix.lower() in ENDINGS for path in train.iterdir())


def found_in(stacks: Sequence[PictureStack], sequences: Sequence[str]) -> Found:
    """What ``inspect`` says of picture folders."""
    scans = [
        FoundScan(
            s.patient, s.patient, s.site, {n: s.pictures[0] for n in sequences}, split=s.split
        )
        for s in stacks
    ]
    whole = sorted({s.site for s in stacks if s.patient == s.split})
    problems = (
        f"the names of pictures of {', '.join(whole)} do not say whose they are: all such pictures "
        "of a split count as one subject",
    )
    return Found(tuple(scans), problems if whole else ())


def import_stacks(
    stacks: Sequence[PictureStack],
    out: Path,
    dataset: str,
    cut: Callable[[Path], Mapping[str, Picture]],
) -> tuple[SiteManifest, ...]:
    """Write one NIfTI volume per subject and sequence, and the manifests.

    Args:
        stacks: what was found.
        out: the site folders are made here.
        dataset: the data set's name.
        cut: reads one picture and cuts it into the sequences, (rows, columns) each.

    Raises:
        DataError: a picture is damaged or of another size than the subject's first, or a patient is
            in two splits; no manifest is written then.
    """
    records = [_written(stack, out, cut) for stack in stacks]
    return write_site_folders(out, dataset, records, seed=0)


def read_picture(path: Path) -> Picture:
    """Read one picture, of 8 or 16 bits.

    Raises:
        DataError: it is damaged, or has a palette instead of intensities.
    """
    try:
        with Image.open(path) as image:
            mode, array = image.mode, np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: damaged or no picture ({error}); copy it again") from error
    if mode in ("P", "1", "CMYK"):
        raise DataError(f"{path}: has colours from a palette ({mode}); save it as grey picture")
    return array.astype(np.uint16) if array.dtype == np.int32 else array


def grey(picture: Picture, path: Path) -> Picture:
    """A grey picture, also where it was saved with three equal channels.

    Raises:
        DataError: the channels differ.
    """
    if picture.ndim == 2:
        return picture
    first = picture[..., 0]
    colours = picture[..., : 3 if picture.shape[2] > 2 else 1]
    if not (colours == first[..., None]).all():
        raise DataError(f"{path}: has colours; each half must be one grey scan")
    return first


def halves(picture: Picture, path: Path) -> tuple[Picture, Picture]:
    """The left and the right half of a picture.

    Raises:
        DataError: it has an odd number of columns.
    """
    columns = picture.shape[1]
    if columns % 2:
        raise DataError(f"{path}: has {columns} columns, which are no two halves side by side")
    return picture[:, : columns // 2], picture[:, columns // 2 :]


def _stacks(site: str, folder: Path) -> Iterator[PictureStack]:
    for split in SPLITS:
        names = _SPLIT_NAMES.get(split, (split,))
        places = [folder / name for name in names if (folder / name).is_dir()]
        by_patient: dict[str, list[Path]] = defaultdict(list)
        for place in places:
            for path in place.iterdir():
                if path.suffix.lower() in ENDINGS:
                    by_patient[_patient(path.stem) or split].append(path)
        for patient, paths in sorted(by_patient.items()):
            ordered = sorted(paths, key=lambda path: in_natural_order(path.name))
            yield PictureStack(site, split, patient, tuple(ordered))


def _patient(stem: str) -> str | None:
    """Whose slice it is by its name, or None."""
    match = _SLICE.fullmatch(stem)
    return None if match is None else match["patient"]


def _written(
    stack: PictureStack, out: Path, cut: Callable[[Path], Mapping[str, Picture]]
) -> SubjectRecord:
    subject = f"{stack.split}-{stack.patient}" if stack.patient != stack.split else stack.split
    slices: dict[str, list[Picture]] = defaultdict(list)
    for path in stack.pictures:
        for name, picture in cut(path).items():
            first = slices[name][0] if slices[name] else picture
            if (picture.shape, picture.dtype) != (first.shape, first.dtype):
                raise DataError(
                    f"{path}: is a picture of {picture.shape} pixels of {picture.dtype}, but "
                    f"{stack.pictures[0].name} of {first.shape} of {first.dtype}; pictures of one "
                    "subject are of one size"
                )
            slices[name].append(picture)
    files = {name: f"{subject}/{name}.nii.gz" for name in slices}
    if not is_withdrawn(out / stack.site, stack.patient):
        for name, file in files.items():
            write_stack(out / stack.site / file, np.stack(slices[name]))
    metadata = {**UNKNOWN_VOXEL_SIZE, PATIENT_ID: stack.patient}
    return SubjectRecord(subject, stack.site, stack.split, files, metadata=metadata)
