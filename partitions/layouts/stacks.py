"""Write slices that come as pictures, without a voxel size, as NIfTI volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from fedi2i.files import replacing

ALIGNED = 2
"""NIfTI sform code "aligned to something", as the scanner's own coordinates are not known."""


def write_stack(path: Path, stack: NDArray[Any]) -> None:
    """Write one volume; voxel edges are 1 of an unknown unit.

    Args:
        path: ends with ``.nii.gz``.
        stack: (slices, rows, columns); rows run anterior to posterior, columns from the patient's
            right to left, slices from the feet to the head, as radiologists' pictures are shown.
    """
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    image: Any = nibabel.Nifti1Image(np.ascontiguousarray(stack.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("unknown", "unknown")
    image.set_sform(affine, code=ALIGNED)
    image.set_qform(affine, code="unknown")
    with replacing(path) as temporary:
        image.to_filename(temporary)
