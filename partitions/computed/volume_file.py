"""Write computed volumes as NIfTI files in the orientation a hospital stores them in."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

from fedi2i.files import replacing
from partitions.computed.anatomy import grid_axes
from partitions.computed.hospitals import Hospital

DESCRIPTION = "computed"
"""What the NIfTI field ``descrip`` says of every file of the cohort."""


def ras_affine(hospital: Hospital) -> NDArray[np.float64]:
    """Voxel-to-mm matrix of the hospital's grid with axes right, anterior, superior."""
    affine = np.diag([hospital.pixel_mm, hospital.pixel_mm, hospital.slice_mm, 1.0])
    affine[:3, 3] = [axis[0] for axis in grid_axes(hospital)]
    return affine


def write_volume(
    path: Path, volume: NDArray[np.int16] | NDArray[np.bool_], hospital: Hospital
) -> None:
    """Write one volume atomically: int16 for images, uint8 for masks.

    Args:
        path: a name ending in ``.nii.gz``.
        volume: shape (X, Y, Z), axes right, anterior, superior.
        hospital: its grid and stored orientation.
    """
    data = volume.astype(np.uint8) if volume.dtype == np.bool_ else volume
    image = nib.Nifti1Image(data, ras_affine(hospital))
    stored = axcodes2ornt(tuple(hospital.orientation))
    image = image.as_reoriented(ornt_transform(io_orientation(image.affine), stored))
    image.set_qform(image.affine, code="scanner")
    image.set_sform(image.affine, code="scanner")
    image.header.set_xyzt_units(xyz="mm")
    image.header["descrip"] = DESCRIPTION
    with replacing(path) as temporary:
        nib.save(image, temporary)
