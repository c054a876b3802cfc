"""One patient folder of kaggle_3m: numbered TIFF slices, one sequence per colour channel."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedi2i.errors import DataError

logger = logging.getLogger(__name__)
SEQUENCES = ("t1", "flair", "t1gd")
"""Channel order of the TIFF files: T1 before contrast, FLAIR, T1 after gadolinium."""

_FOLDER = re.compile(r"(TCGA_([A-Z0-9]{2})_[A-Z0-9]+)_\d{8}")


@dataclass(frozen=True)
class PatientFolder:
    """Where one patient's slices lie.

    Attributes:
        path: the folder.
        patient: identifier without the date, as in ``data.csv``.
        site: hospital code.
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


def find_patients(source: Path) -> tuple[PatientFolder, ...]:
    """The patient folders, ordered by hospital and name.

    Raises:
        DataError: the folder is missing, holds no patient, or a slice lacks its mask.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such data folder; give the folder 'kaggle_3m'")
    matches = [(path, _FOLDER.fullmatch(path.name)) for path in source.iterdir() if path.is_dir()]
    found = [_patient_folder(path, match) for path, match in matches if match]
    if not found:
        raise DataError(
            f"{source}: no folder named like 'TCGA_CS_4942_19970222' in it; give the folder "
            "'kaggle_3m'"
        )
    return tuple(sorted(found, key=lambda folder: (folder.site, folder.subject)))


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
