"""A translated volume as a NIfTI file on the grid of its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from fedi2i.files import not_written, replacing
from partitions.preparation.intensities import Scale
from partitions.preparation.scaling import HOUNSFIELD
from partitions.scans.grid import Affine

_DESCRIPTION = 79
"""Bytes of the header's description."""
_SCANNER = 1
"""NIfTI's code for positions of the scanner, where the source says nothing better."""


def write_volume(
    path: Path,
    values: NDArray[np.float32],
    affine: Affine,
    scale: Scale,
    description: str,
    code: int = _SCANNER,
) -> Path:
    """Write a volume as a whole or not at all: whole HU as int16, anything else as float32.

    Both forms get the same affine: an old one beside a new one would leave it to each reader where
    the voxels lie.

    Args:
        path: ends in ``.nii.gz``.
        values: on the source's grid, axes as stored, in the unit of ``scale``.
        affine: 4x4, voxel index to mm (RAS).
        scale: of the values; sets what a viewer shows.
        description: for the header.
        code: NIfTI's code of the space that the affine leads to.

    Returns:
        ``path``.

    Raises:
        DataError: a value is no number, or the file cannot be written.
    """
    if not np.isfinite(values).all():
        raise DataError(f"{path}: not written, as the translation holds values that are no number")
    data: NDArray[Any] = values
    if scale.unit == HOUNSFIELD:
        limits = np.iinfo(np.int16)
        data = np.clip(np.rint(values), limits.min, limits.max).astype(np.int16)
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    image.header["descrip"] = description.encode("ascii", "replace")[:_DESCRIPTION]
    image.header["cal_min"], image.header["cal_max"] = scale.low, scale.high
    try:
        with replacing(path) as temporary:
            nibabel.save(image, temporary)
    except OSError as error:
        raise DataError(not_written(path, error)) from error
    return path
