"""TCGA-LGG brain MRI in the layout of the public "kaggle_3m" folder; a site is a hospital of TCGA.

Buda, Saha, Mazurowski, "Association of genomic subtypes of lower-grade gliomas with shape features
automatically extracted by a deep learning algorithm", Computers in Biology and Medicine 109, 2019,
doi:10.1016/j.compbiomed.2019.05.002. Scans: TCIA, collection TCGA-LGG.
"""

from __future__ import annotations

import argparse
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedi2i.errors import DataError
from partitions.layouts.found_scans import Found, FoundScan, Recognised, say, usable
from partitions.layouts.stacks import write_stack
from partitions.layouts.table_file import Row, read_table_file, without_missing
from partitions.manifest import (
    PATIENT_ID,
    UNKNOWN_VOXEL_SIZE,
    SiteManifest,
    SubjectRecord,
    with_grouped_age,
)
from partitions.readers import Reader
from partitions.site_folders import TO_BE_DRAWN, write_site_folders
from partitions.withdrawn_patients import is_withdrawn

logger = logging.getLogger(__name__)
DATASET = "lgg"
SEQUENCES = ("t1", "flair", "t1gd")
"""Channel order of the TIFF files: T1 before contrast, FLAIR, T1 after gadolinium."""

_FOLDER = re.compile(r"(TCGA_([A-Z0-9]{2})_[A-Z0-9]+)_\d{8}")
_PATIENT = "patient"
_COLUMNS = {"age_at_initial_pathologic": "age", "gender": "gender_code"}


@dataclass(frozen=True)
class PatientFolder:
    """Where one patient's slices lie.

    Attributes:
        path: the folder.
        patient: identifier without the date, as in ``data.csv``.
        site: the hospital's code in TCGA.
        slices: image and mask file of each slice, from the lowest number to the highest.
    """

    path: Path
    patient: str
    site: str
    slices: tuple[tuple[Path, Path], ...]

    @property
    def subject(self) -> str:
        """The folder's name: patient and date of the scan."""
        return self.path.name


@dataclass(frozen=True)
class Stack:
    """One patient's slices, uint8, axes (slices, rows, columns).

    Attributes:
        images: sequence name to intensities.
        lesion: 0 or 1, the FLAIR abnormality.
    """

    images: dict[str, NDArray[np.uint8]]
    lesion: NDArray[np.uint8]

    def missing_sequences(self) -> tuple[str, ...]:
        """Sequences that were not acquired: identical to FLAIR, or to each other."""
        t1, flair, t1gd = (self.images[name] for name in SEQUENCES)
        twins = np.array_equal(t1, t1gd)
        candidates = {"t1": t1, "t1gd": t1gd}
        return tuple(
            name for name, image in candidates.items() if twins or np.array_equal(image, flair)
        )


def import_lgg(source: Path, out: Path, seed: int) -> tuple[SiteManifest, ...]:
    """Convert the TIFF slices to NIfTI volumes and write one manifest per site.

    The files state no voxel size. None is invented: the NIfTI unit is "unknown", the pixel grid
    is kept, and the subject's metadata say ``voxel_size: unknown``. A sequence that is a copy of
    another one was never acquired; it is left out and named in ``missing_sequences``.

    Args:
        source: the folder ``kaggle_3m``.
        out: becomes ``<out>/<SITE>/manifest.json`` with ``<out>/<SITE>/<subject>/t1.nii.gz`` ...
        seed: of the split by patient within each site.

    Raises:
        DataError: the folder is missing, has another layout, or no patient can be used; no manifest
            is written then. A patient with a damaged slice is named and left out.
    """
    folders, problems = find_patients(source)
    patients = read_patients(source / "data.csv")
    records, damaged = usable(
        folders, lambda folder: _import_subject(folder, out / folder.site, patients)
    )
    problems += damaged
    say(problems)
    if not records:
        raise DataError(f"{source}: no patient can be used; {problems[0]}")
    return write_site_folders(out, DATASET, records, seed)


def find_patients(source: Path) -> tuple[list[PatientFolder], list[str]]:
    """The patient folders, ordered by site and name, and what is wrong with others.

    Raises:
        DataError: the folder is missing, or holds no patient.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such data folder; give the folder 'kaggle_3m'")
    matches = [(path, _FOLDER.fullmatch(path.name)) for path in source.iterdir() if path.is_dir()]
    named = sorted(((path, match) for path, match in matches if match), key=lambda one: one[0])
    found, problems = usable(named, lambda one: _patient_folder(*one))
    if not named:
        raise DataError(
            f"{source}: no folder named like 'TCGA_CS_4942_19970222' in it; give the folder "
            "'kaggle_3m'"
        )
    return sorted(found, key=lambda folder: (folder.site, folder.subject)), problems


def read_stack(folder: PatientFolder) -> Stack:
    """Read one patient's slices.

    Raises:
        DataError: a file is damaged or of another shape than the first.
    """
    pairs = [(_read(image, 3), _read(mask, 1)) for image, mask in folder.slices]
    shape = pairs[0][0].shape[:2]
    for (image, mask), (image_path, mask_path) in zip(pairs, folder.slices, strict=True):
        for array, path in ((image, image_path), (mask, mask_path)):
            if array.shape[:2] != shape:
                raise DataError(
                    f"{path}: has {array.shape[:2]} pixels, the patient's first slice has {shape}; "
                    "copy the folder again from its source"
                )
    volume = np.stack([image for image, _ in pairs])
    lesion = np.stack([mask > 0 for _, mask in pairs]).astype(np.uint8)
    images = {name: volume[..., channel] for channel, name in enumerate(SEQUENCES)}
    return Stack(images, lesion)


def read_patients(path: Path) -> dict[str, dict[str, Any]]:
    """Metadata by patient; empty cells are left out.

    ``age`` is in years at the first pathological diagnosis, from 90 on as one group. The file codes
    gender as 1 and 2 without a key, so the code is passed on as ``gender_code`` and not translated.

    Raises:
        DataError: the file has other columns or a cell that is not a number.
    """
    if not path.is_file():
        logger.warning("%s is not there: patients come without age and gender", path.name)
        return {}
    table = read_table_file(path, {})
    absent = {_PATIENT, *_COLUMNS} - set(table.columns)
    if absent:
        raise DataError(
            f"{path}: no column {', '.join(sorted(absent))}; use the file of the kaggle_3m "
            "release, or remove it to import without age and gender"
        )
    return {row.cells[_PATIENT]: _metadata(row, path) for row in table.rows}


def recognise(folder: Path) -> Recognised | None:
    """What a folder in this layout holds; all slices are read, as copies show in them only."""
    if not any(_FOLDER.fullmatch(path.name) for path in folder.iterdir()):
        return None
    scans = []
    folders, problems = find_patients(folder)
    for found in folders:
        try:
            missing = read_stack(found).missing_sequences()
        except DataError as error:
            problems.append(f"left out: {error}")
            continue
        files = {name: found.path for name in SEQUENCES if name not in missing}
        scans.append(FoundScan(found.subject, found.patient, found.site, files))
        if missing:
            problems.append(f"{found.subject}: no {' and no '.join(missing)} (a copy of another)")
    return Recognised(Found(tuple(scans), tuple(problems)), ("--source", str(folder)))


def _import_subject(
    folder: PatientFolder, root: Path, patients: dict[str, dict[str, Any]]
) -> SubjectRecord:
    stack = read_stack(folder)
    missing = stack.missing_sequences()
    files = {n: f"{folder.subject}/{n}.nii.gz" for n in SEQUENCES if n not in missing}
    lesion = f"{folder.subject}/lesion.nii.gz"
    if not is_withdrawn(root, folder.patient):
        for name, file in files.items():
            write_stack(root / file, stack.images[name])
        write_stack(root / lesion, stack.lesion)
    metadata: dict[str, Any] = {
        **patients.get(folder.patient, {}),
        PATIENT_ID: folder.patient,
        **UNKNOWN_VOXEL_SIZE,
    }
    if missing:
        metadata["missing_sequences"] = list(missing)
        logger.warning(
            "%s: no %s (the channel is a copy)", folder.subject, " and no ".join(missing)
        )
    return SubjectRecord(
        subject=folder.subject,
        site=folder.site,
        split=TO_BE_DRAWN,
        files=files,
        lesion_mask=lesion,
        metadata=metadata,
    )


def _patient_folder(path: Path, match: re.Match[str]) -> PatientFolder:
    pattern = re.compile(re.escape(path.name) + r"_(\d+)\.tif")
    numbered = {
        int(hit.group(1)): file for file in path.iterdir() if (hit := pattern.fullmatch(file.name))
    }
    if not numbered:
        raise DataError(f"{path}: holds no slice '{path.name}_<number>.tif'; copy it again")
    gaps = set(range(min(numbered), max(numbered) + 1)) - set(numbered)
    if gaps:
        logger.warning("%s: slices %s are not there", path.name, sorted(gaps))
    slices = []
    for number in sorted(numbered):
        mask = path / f"{path.name}_{number}_mask.tif"
        if not mask.is_file():
            raise DataError(f"{mask}: no such file; copy the folder again from its source")
        slices.append((numbered[number], mask))
    return PatientFolder(path, match.group(1), match.group(2), tuple(slices))


def _read(path: Path, channels: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            array = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{path}: damaged or not a TIFF image ({error}); copy it again from its source"
        ) from error
    found = array.shape[2] if array.ndim == 3 else 1
    if found != channels or array.dtype != np.uint8:
        raise DataError(
            f"{path}: has {found} channels of type {array.dtype}, expected {channels} of uint8; is "
            "this the kaggle_3m release?"
        )
    return array


def _metadata(row: Row, path: Path) -> dict[str, Any]:
    found = {}
    for column, name in _COLUMNS.items():
        text = without_missing(row.cells[column])
        if text:
            try:
                found[name] = int(float(text))
            except (ValueError, OverflowError) as error:
                raise DataError(
                    f"{path}: row {row.number}: {column} '{text}' is not a number; correct the cell"
                ) from error
    return with_grouped_age(found)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="the folder kaggle_3m")


READER = Reader(
    help="TCGA-LGG (kaggle_3m), one site per hospital",
    add_options=_add_options,
    bring_in=lambda options: import_lgg(options.source, options.out, options.seed),
    out=Path("data/lgg"),
    settings=("target=flair", "spacing=null", "size=[256,256]"),
    layout="folders like TCGA_CS_4942_19970222 (TCGA-LGG, kaggle_3m)",
    recognise=recognise,
)
