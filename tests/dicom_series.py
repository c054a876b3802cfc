"""DICOM series of known voxels, written with pydicom as scanners write them, traps included.

File names, numbers and thicknesses are wrong on purpose: none of them may be trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

SHAPE = (20, 24, 12)
"""Columns, rows, slices."""
SPACING = (1.25, 1.5, 2.5)
_STORAGE = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
}

Edit = Callable[[Dataset, int], None]


def uid(*names: object) -> str:
    """An identifier that is the same in every run."""
    return str(generate_uid(entropy_srcs=[str(name) for name in names]))


def lps(plane: str = "axial") -> NDArray[np.float64]:
    """The affine (LPS) of a grid of ``SPACING`` in one of three planes; slices along r x c."""
    axes = {
        "axial": np.eye(3),
        # Columns to the back, rows downwards, slices from left to right of the patient.
        "sagittal": np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]]),
    }
    if plane == "oblique":
        a, b = np.deg2rad(17), np.deg2rad(-23)
        one = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        two = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
        axes["oblique"] = one @ two
    affine = np.eye(4)
    affine[:3, :3] = axes[plane] * np.array(SPACING)
    affine[:3, 3] = (-31.5, 12.25, -100.125)
    return affine


def random_hu(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float64]:
    """Whole HU of -1000 to 1999, every voxel drawn, so that no shift goes unseen."""
    drawn = np.random.default_rng(seed).integers(-1000, 2000, shape)
    return np.asarray(drawn, dtype=np.float64)


def write_series(
    folder: Path,
    hu: NDArray[np.float64] | None = None,
    affine: NDArray[np.float64] | None = None,
    modality: str = "CT",
    name: str = "one",
    patient: str = "P1",
    study: str = "S1",
    rescale: tuple[float, float] | None = (1.0, -1024.0),
    signed: bool = False,
    edit: Edit | None = None,
    **attributes: Any,
) -> list[Path]:
    """Write a series; return its files in the order of the slices.

    Args:
        folder: the files go here.
        hu: values, axes (column, row, slice).
        affine: 4x4, voxel index to position in mm (LPS).
        modality: CT, MR or PT.
        name: of the series; names make its UID.
        patient: PatientID.
        study: of the study; names make its UID.
        rescale: slope and intercept; None writes none.
        signed: whether pixels are signed.
        edit: changes the header of a slice before it is written.
        attributes: of every header, by keyword.
    """
    hu = random_hu() if hu is None else hu
    affine = lps() if affine is None else affine
    folder.mkdir(parents=True, exist_ok=True)
    slope, intercept = rescale or (1.0, 0.0)
    paths = []
    for k in range(hu.shape[2]):
        dataset = _header(modality, name, patient, study, k)
        _place(dataset, affine, k)
        dataset.SliceThickness, dataset.InstanceNumber = 5.0, hu.shape[2] - k
        dataset.Rows, dataset.Columns = hu.shape[1], hu.shape[0]
        if rescale:
            dataset.RescaleIntercept, dataset.RescaleSlope = intercept, slope
            dataset.RescaleType = "HU"
        dataset.PixelRepresentation = int(signed)
        stored = np.rint((hu[:, :, k].T - intercept) / slope)
        dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        if edit is not None:
            edit(dataset, k)
        paths.append(folder / f"{name}-{(7 * k) % hu.shape[2]:03d}.IMA")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def _header(modality: str, name: str, patient: str, study: str, k: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = _STORAGE[modality]
    dataset.SOPInstanceUID = uid(patient, study, name, k)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID = uid(patient, study)
    dataset.SeriesInstanceUID = uid(patient, study, name)
    dataset.FrameOfReferenceUID = uid(patient, study, "frame")
    dataset.PositionReferenceIndicator = ""
    dataset.PatientName, dataset.PatientID = f"Secret^Name {patient}", patient
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "19610203", "F", "061Y"
    dataset.StudyDate = dataset.ContentDate = "20200102"
    dataset.StudyTime = dataset.ContentTime = "101112"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "", "Dr^Secret"
    dataset.InstitutionName = "Secret Hospital"
    dataset.Modality, dataset.Manufacturer = modality, "Maker"
    dataset.SeriesNumber, dataset.SeriesDescription = 3, f"{name} of Secret"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "M"]
    dataset.BodyPartExamined, dataset.PatientPosition = "HEAD", "HFS"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    if modality == "CT":
        dataset.KVP, dataset.AcquisitionNumber = 120, 1
    if modality == "MR":
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
        dataset.MRAcquisitionType, dataset.RepetitionTime, dataset.EchoTime = "3D", 2000, 20
    return dataset


def _place(dataset: Dataset, affine: NDArray[np.float64], k: int) -> None:
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / edges
    dataset.ImageOrientationPatient = _decimals(*axes[:, 0], *axes[:, 1])
    dataset.ImagePositionPatient = _decimals(*(affine[:3, 2] * k + affine[:3, 3]))
    dataset.PixelSpacing = _decimals(edges[1], edges[0])


def _decimals(*values: float) -> list[str]:
    """At most 16 characters each, as the standard has it; pydicom would write more."""
    return [format_number_as_ds(float(value)) for value in values]
