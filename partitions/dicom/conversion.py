"""From the series of one subject to NIfTI files in a site folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

from fedi2i.errors import DataError
from fedi2i.files import replacing
from partitions.dicom.folder import in_silence
from partitions.dicom.groups import Group
from partitions.dicom.metadata import facts_of, shared_facts
from partitions.dicom.series import SeriesVolume, read_series
from partitions.dicom.uptake import PET, suv_factor
from partitions.manifest import FRAMES_OF_REFERENCE, SUV_FACTOR
from partitions.withdrawn_patients import is_withdrawn

if TYPE_CHECKING:
    from pydicom import Dataset

logger = logging.getLogger(__name__)

SCANNER = 1
"""NIfTI code of positions in the scanner's own coordinates."""


@in_silence()
def convert_subject(
    chosen: Mapping[str, Group],
    root: Path,
    subject: str,
    patient: str,
    straighten: bool = False,
    allow_synthetic: bool = False,
) -> tuple[dict[str, str], dict[str, Any]]:
    """Read the series of a subject, then write ``<root>/<subject>/<sequence>.nii.gz``.

    All are read before the first is written, so that a subject is there with all of its
    sequences or not at all. Those of a withdrawn patient are read and not written: what they hold
    decides on everybody's splits, as it did before.

    Args:
        chosen: sequence name to series.
        root: the site folder.
        subject: what the subject is called.
        patient: what the person is called in the manifest.
        straighten: see `read_series`.
        allow_synthetic: whether to take series that a program made up.

    Returns:
        The files by sequence, relative to ``root``, and the metadata.

    Raises:
        DataError: a series cannot be used.
    """
    volumes = {name: read_series(group, straighten) for name, group in chosen.items()}
    for name, volume in volumes.items():
        _look_at(subject, name, volume, allow_synthetic)
    files = {name: f"{subject}/{name}.nii.gz" for name in volumes}
    if not is_withdrawn(root, patient):
        for name, volume in volumes.items():
            write_nifti(root / files[name], volume)
    metadata = shared_facts({name: _facts(volume) for name, volume in volumes.items()})
    metadata |= _suv_factors(subject, volumes)
    if _frames_differ(volumes.values()):
        logger.warning(
            "%s: %s have different frames of reference: their positions do not belong together "
            "until one is registered to the other",
            subject,
            " and ".join(f"'{name}'" for name in volumes),
        )
        metadata[FRAMES_OF_REFERENCE] = "different"
    return files, metadata


def write_nifti(path: Path, volume: SeriesVolume) -> None:
    """Write a volume: integers as int16, anything else as float32; both forms of the header.

    Args:
        path: ends with ``.nii.gz``.
        volume: straight but for what `stack_of` lets pass, as the qform can hold no shear: the
            sform is what the qform makes of it, so that both say the same.
    """
    data = volume.data
    limits = np.iinfo(np.int16)
    whole = limits.min <= data.min() and data.max() <= limits.max and (data == np.rint(data)).all()
    image: Any = nibabel.Nifti1Image(data.astype(np.int16) if whole else data, volume.affine)
    image.header.set_xyzt_units("mm", "unknown")
    image.set_qform(volume.affine, code=SCANNER)
    image.set_sform(image.get_qform(), code=SCANNER)
    with replacing(path) as temporary:
        image.to_filename(temporary)


def is_synthetic(header: Dataset) -> bool:
    """Whether a series says that a program made it up (PS3.3 C.12.1, SyntheticData)."""
    return str(header.get("SyntheticData", "")).upper() == "YES"


def _look_at(subject: str, name: str, volume: SeriesVolume, allow_synthetic: bool) -> None:
    """Refuse what a program made up or is no number, and say what a person should know."""
    if not np.isfinite(volume.data).all():
        raise DataError(
            f"{volume.slices[0].path}: its series has values that are no finite numbers; correct "
            "the export or leave the series out"
        )
    if not allow_synthetic and any(map(is_synthetic, volume.headers)):
        raise DataError(
            f"{volume.slices[0].path}: says that it was made up by a program (SyntheticData); "
            "leave it out, or give --allow-synthetic"
        )
    if volume.lossy:
        logger.warning("%s: '%s' was compressed with losses", subject, name)
    if volume.tilt:
        logger.warning(
            "%s: '%s' was resampled, as its stack is tilted by %.1f degrees",
            subject,
            name,
            volume.tilt,
        )


def _frames_differ(volumes: Iterable[SeriesVolume]) -> bool:
    """Whether series say that their positions start from different points (PS3.3 C.7.4.1)."""
    said = {str(one.headers[0].get("FrameOfReferenceUID") or "") for one in volumes}
    return len(said - {""}) > 1


def _suv_factors(subject: str, volumes: Mapping[str, SeriesVolume]) -> dict[str, float]:
    """What turns a subject's PET to SUV; of several PET series each has its name in front."""
    found = {}
    for name, volume in volumes.items():
        if volume.headers[0].get("Modality") == PET:
            try:
                found[name] = suv_factor(volume.headers)
            except DataError as reason:
                logger.warning(
                    "%s: '%s' cannot be turned to SUV: %s; write '%s' into its metadata to use it "
                    "as SUV",
                    subject,
                    name,
                    reason,
                    SUV_FACTOR,
                )
    if len(found) == 1:
        return {SUV_FACTOR: next(iter(found.values()))}
    return {f"{name}_{SUV_FACTOR}": factor for name, factor in found.items()}


def _facts(volume: SeriesVolume) -> dict[str, Any]:
    facts = facts_of(volume.headers[0])
    if volume.lossy:
        facts["lossy"] = "yes"
    if volume.tilt:
        facts["straightened_degrees"] = round(volume.tilt, 1)
    return facts
