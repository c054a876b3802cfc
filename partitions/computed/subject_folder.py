"""One subject's folder: its volumes, and last a note that it is complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

from fedi2i.files import replacing, write_text
from partitions.computed.anatomy import grid_axes
from partitions.computed.ct.tasks import TASKS
from partitions.computed.site_profiles import ImageGrid
from partitions.computed.subject import ComputedSubject, PlannedSubject
from partitions.manifest import SubjectRecord

NOTE = "computed.json"
"""Written last in each subject's folder; holds what the manifest says of the subject."""

DESCRIPTION = "computed"
"""What the NIfTI field ``descrip`` says of every file of the cohort."""


def write_subject(out: Path, planned: PlannedSubject) -> None:
    """Compute one subject and write its volumes and its note under ``out``."""
    subject = TASKS[planned.task].compute(planned.profile, planned.seed())
    folder = _folder(out, planned)
    for name, volume in subject.volumes.items():
        write_volume(folder / f"{name}.nii.gz", volume, planned.profile)
    write_volume(folder / "mask.nii.gz", subject.mask, planned.profile)
    if subject.lesion.any():
        write_volume(folder / "lesion.nii.gz", subject.lesion, planned.profile)
    write_text(folder / NOTE, json.dumps(_metadata(planned, subject), indent=1) + "\n")


def read_record(out: Path, planned: PlannedSubject) -> SubjectRecord | None:
    """The subject's manifest record, or None if its folder is not complete."""
    folder = _folder(out, planned)
    try:
        metadata = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        has_lesion = bool(metadata["has_lesion"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    record = SubjectRecord(
        subject=planned.name,
        site=planned.profile.site,
        split=planned.split,
        files={name: f"{planned.name}/{name}.nii.gz" for name in TASKS[planned.task].sequences},
        mask=f"{planned.name}/mask.nii.gz",
        lesion_mask=f"{planned.name}/lesion.nii.gz" if has_lesion else None,
        metadata=metadata,
    )
    expected = [*record.files.values(), record.mask, record.lesion_mask]
    complete = all((folder.parent / name).is_file() for name in expected if name is not None)
    return record if complete else None


def write_volume(
    path: Path, volume: NDArray[np.int16] | NDArray[np.bool_], profile: ImageGrid
) -> None:
    """Write one volume atomically: int16 for images, uint8 for masks.

    Args:
        path: a name ending in ``.nii.gz``.
        volume: shape (X, Y, Z), axes right, anterior, superior.
        profile: the site, which has a grid and a stored orientation.
    """
    data = volume.astype(np.uint8) if volume.dtype == np.bool_ else volume
    image = nib.Nifti1Image(data, _ras_affine(profile))
    stored = axcodes2ornt(tuple(profile.orientation))
    image = image.as_reoriented(ornt_transform(io_orientation(image.affine), stored))
    image.set_qform(image.affine, code="scanner")
    image.set_sform(image.affine, code="scanner")
    image.header.set_xyzt_units(xyz="mm")
    image.header["descrip"] = DESCRIPTION
    with replacing(path) as temporary:
        nib.save(image, temporary)


def _folder(out: Path, planned: PlannedSubject) -> Path:
    return out / planned.profile.site / planned.name


def _metadata(planned: PlannedSubject, subject: ComputedSubject) -> dict[str, Any]:
    return {
        "age": subject.age,
        **TASKS[planned.task].facts(planned.profile),
        "has_lesion": bool(subject.lesion.any()),
    }


def _ras_affine(profile: ImageGrid) -> NDArray[np.float64]:
    """Voxel-to-mm matrix of the site's grid with axes right, anterior, superior."""
    affine = np.diag([profile.pixel_mm, profile.pixel_mm, profile.slice_mm, 1.0])
    affine[:3, 3] = [axis[0] for axis in grid_axes(profile)]
    return affine
