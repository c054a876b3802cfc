"""The images that a preset measures: prepared slices, or volumes on the grid of the scan, in HU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedi2i.errors import DataError
from lightning_modules.metrics.interface import ImagePair, image_pair
from lightning_modules.metrics.presets.interface import Preset
from partitions.manifest import SiteManifest
from partitions.preparation.configuration import PreparationConfig
from partitions.preparation.grids.native_grid import SliceGeometry, covered, to_turned_grid
from partitions.preparation.grids.stored_target import StoredTarget, stored_target
from partitions.preparation.intensities import Scale

if TYPE_CHECKING:
    from lightning_modules.evaluation.validation import Patient

ANATOMIES = {
    "chest": ("chest", "thorax", "lung", "c"),
    "abdomen": ("abdomen", "liver", "pelvis", "l"),
    "head": ("head", "brain", "neuro", "n"),
}
"""Words in ``body_part`` of the metadata, among them the letters of LDCT-and-Projection-data."""


def prepared_pair(prediction: Tensor, patient: Patient, preset: Preset) -> ImagePair:
    """The prepared slices, as intensities in [0, 1] or in HU.

    Args:
        prediction: (slices, rows, columns), intensities; clipped to [0, 1].
        patient: whose target it is compared with.
        preset: in which unit.

    Raises:
        DataError: the preset needs the patient's anatomy, which is unknown.
    """
    if not preset.in_hu:
        return image_pair(prediction, patient.target, patient.mask, patient.lesion)
    scale = _scale(patient)
    predicted, target = (
        torch.from_numpy(scale.to_unit(image.numpy())) for image in (prediction, patient.target)
    )
    return ImagePair(
        predicted, target, patient.mask, patient.lesion, anatomy=anatomy_of(patient, preset)
    )


def stored_target_of(
    manifest: SiteManifest | None, config: PreparationConfig, patient: Patient
) -> StoredTarget:
    """A patient's target as it is stored.

    Raises:
        DataError: the prepared slices were opened without the manifest that leads to the scans, or
            a scan cannot be read.
    """
    records = {} if manifest is None else {one.subject: one for one in manifest.subjects}
    if manifest is None or patient.subject not in records:
        raise DataError(
            f"subject '{patient.subject}': its scan is not known, so nothing can be measured on "
            "its grid; evaluate with the site's folder"
        )
    return stored_target(records[patient.subject], manifest.root, config)


def native_pair(
    prediction: Tensor, patient: Patient, stored: StoredTarget, preset: Preset
) -> ImagePair:
    """Volumes on the voxels of the patient's scan, (slices, rows, columns), in HU.

    The target is the scan itself, not what preparation made of it. Voxels that no slice of the
    prediction covers are air.

    Args:
        prediction: (slices, rows, columns), intensities; clipped to [0, 1].
        patient: whose slices they are.
        stored: what they are compared with.
        preset: which measures them.

    Raises:
        DataError: the preset needs the patient's anatomy, which is unknown.
    """
    geometry = _geometry(patient)
    predicted = to_turned_grid(prediction.numpy(), geometry, _scale(patient))
    return ImagePair(
        _slices(predicted).double(),
        _slices(stored.values).double(),
        _slices(stored.mask),
        covered=torch.from_numpy(covered(geometry, tuple(prediction.shape[1:])).any(axis=(0, 1))),
        anatomy=anatomy_of(patient, preset),
    )


def anatomy_of(patient: Patient, preset: Preset) -> str:
    """The anatomy whose window a preset looks through; "" for presets that have but one.

    Raises:
        DataError: the metadata do not say it.
    """
    if "windows" not in preset.facts:
        return ""
    given = patient.body_part.strip().lower()
    found = [name for name, words in ANATOMIES.items() if given in words]
    if not found:
        known = ", ".join(ANATOMIES)
        raise DataError(
            f"subject '{patient.subject}': preset '{preset.name}' looks through the window of the "
            f"anatomy, but 'body_part' of its metadata is '{patient.body_part}'; give one of "
            f"{known}"
        )
    return found[0]


def _slices(volume: np.ndarray) -> Tensor:
    """(x, y, z) as (slices, rows, columns)."""
    return torch.from_numpy(np.ascontiguousarray(volume.transpose(2, 1, 0)))


def _scale(patient: Patient) -> Scale:
    scale = patient.scales.get("target")
    if scale is None:
        raise DataError(
            f"subject '{patient.subject}': the scale of its prepared slices is not known; prepare "
            "them again"
        )
    return scale


def _geometry(patient: Patient) -> SliceGeometry:
    if patient.geometry is None:
        raise DataError(
            f"subject '{patient.subject}': the grid of its scan is not known; prepare it again"
        )
    return patient.geometry
