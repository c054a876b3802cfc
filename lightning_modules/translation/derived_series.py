"""A translated volume as a DICOM series: a new CT or MR series of the source's study.

What it holds is an allow-list, built up from nothing: no private tag, no protocol, dose or contrast
of the scanner can come along. Frame of reference, positions and pixel sizes are the source's own
decimal strings, so that the grid is equal to the last digit. PS3.3 C.7.6.1 (derived images), C.12.1
(SOP Common, Synthetic Data), A.3 and A.4 (CT and MR image objects).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedi2i import __version__
from fedi2i.errors import DataError
from fedi2i.files import not_written
from partitions.dicom.folder import in_silence
from partitions.preparation.intensities import Scale
from partitions.preparation.scaling import HOUNSFIELD

if TYPE_CHECKING:
    from pydicom import Dataset

SYNTHETIC = "SYNTHETIC {}, not for diagnosis"
"""Where the series' description begins; ``{}`` is the modality."""
LONG_STRING = 64
"""Characters that a description may have (value representation LO)."""
_SOFTWARE = "FedI2I"
_SERIES_AFTER = 9000
_PATIENT_AND_STUDY = (
    *("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID"),
    *("PatientBirthDate", "PatientSex", "PatientAge", "PatientSize", "PatientWeight"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
_GEOMETRY = (
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition"),
    *("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness"),
    *("Rows", "Columns", "BodyPartExamined"),
)
_LOSSY = (
    *("LossyImageCompression", "LossyImageCompressionRatio"),
    "LossyImageCompressionMethod",
)
_EMPTY_IF_MISSING = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("PositionReferenceIndicator", "PatientPosition", "BodyPartExamined"),
)
_MOST_NUMBER = 2**31 - 1
"""The largest integer that DICOM writes (value representation IS)."""
_NEEDED = ("StudyInstanceUID", "FrameOfReferenceUID")
_COPIED = (*_GEOMETRY, "PatientID", "StudyInstanceUID")
_HU_OFFSET = -1024
_MOST = 65535
_HALF_A_STEP = 0.5 + 2**-8
"""Of whole numbers; with room for what float32 rounds."""


@dataclass(frozen=True)
class Provenance:
    """What a derived series says of its making.

    Attributes:
        modality: of what was written, ``CT`` or ``MR``.
        source: the words for what was translated, e.g. ``MR t1``.
        target: the words for what was written.
        model: the model's name.
        digest: SHA-256 of its weights.
    """

    modality: str
    source: str
    target: str
    model: str
    digest: str

    @property
    def words(self) -> str:
        """One sentence of at most 1,024 characters (value representation ST)."""
        return (
            f"{self.target} computed from {self.source} by a neural network; nothing was acquired. "
            f"Model {self.model}, weights {self.digest[:16]}, {_SOFTWARE} {__version__}."
        )[:1024]


def write_series(
    folder: Path,
    headers: Sequence[Dataset],
    values: NDArray[np.float32],
    scale: Scale,
    made: Provenance,
) -> Path:
    """Write one file per slice; the folder appears complete and read back, or not at all.

    Args:
        folder: must not exist.
        headers: the source's slices in the order of their positions along the normal.
        values: (columns, rows, slices) in the unit of ``scale``, on the source's grid.
        scale: of the values.
        made: what the series says of its making.

    Returns:
        ``folder``.

    Raises:
        DataError: a value is no number, the disk is full, or what was read back differs.
    """
    if not np.isfinite(values).all():
        raise DataError(
            f"{folder}: not written, as the translation holds values that are no number"
        )
    stored = stored_values(values, scale)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".writing-"))
    try:
        with in_silence():  # a patient's values are copied as they are, valid or not
            for number, dataset in enumerate(_datasets(headers, stored, scale, made), 1):
                _save(dataset, temporary / f"{number:05d}.dcm", folder)
            _check(temporary, headers, values)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError as error:
        raise DataError(not_written(folder, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


@in_silence()
def check_source(path: Path, headers: Sequence[Dataset]) -> None:
    """Refuse a source whose study or frame of reference a new series cannot belong to.

    Args:
        path: of the source, for the message.
        headers: its slices.

    Raises:
        DataError: naming what is missing.
    """
    missing = [name for name in _NEEDED if not all(one.get(name) for one in headers)]
    if missing:
        raise DataError(
            f"{path}: has no {' and no '.join(missing)}, without which no DICOM series can be "
            "added to its study; give --nifti"
        )


def _save(dataset: Dataset, path: Path, folder: Path) -> None:
    try:
        dataset.save_as(path, enforce_file_format=True)
    except OSError:
        raise
    except Exception as error:  # pydicom's errors about damage have no class in common
        raise DataError(
            f"{folder}: not written, as the source's header holds a damaged value where the new "
            "series needs it; give --nifti"
        ) from error


def stored_values(values: NDArray[np.float32], scale: Scale) -> NDArray[np.uint16]:
    """What stands in the files: whole HU above -1024, or whole numbers of a scale without unit.

    Args:
        values: finite, in the unit of ``scale``.
        scale: of the values.
    """
    offset = _HU_OFFSET if scale.unit == HOUNSFIELD else 0
    # Clipped first, as a cast turns what does not fit into any number.
    return np.clip(np.rint(values - offset), 0, _MOST).astype(np.uint16)


def _datasets(
    headers: Sequence[Dataset], stored: NDArray[np.uint16], scale: Scale, made: Provenance
) -> Iterator[Dataset]:
    from pydicom.uid import generate_uid

    now = datetime.now()
    series = generate_uid()
    for index, header in enumerate(headers):
        dataset = _empty(header, made.modality)
        _describe(dataset, header, made, now)
        _refer(dataset, header, headers)
        dataset.SeriesInstanceUID = series
        dataset.InstanceNumber = index + 1
        _add_pixels(dataset, stored[:, :, index], scale, made.modality)
        yield dataset


def _empty(header: Dataset, modality: str) -> Dataset:
    """A file with what is copied from the source, and identities of its own."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import (
        CTImageStorage,
        ExplicitVRLittleEndian,
        MRImageStorage,
        generate_uid,
    )

    dataset = Dataset()
    for name in _EMPTY_IF_MISSING:
        setattr(dataset, name, "")
    for name in (*_PATIENT_AND_STUDY, *_GEOMETRY, *_LOSSY):
        if name in header:
            # The element itself: its decimal strings stay as they were written.
            dataset[name] = deepcopy(header[name])
    dataset.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.Modality = modality
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _describe(dataset: Dataset, header: Dataset, made: Provenance, now: datetime) -> None:
    """Say in all places that a reader may look at that the image is computed."""
    third = "AXIAL" if made.modality == "CT" else "OTHER"  # CT has no other word for it
    dataset.ImageType = ["DERIVED", "SECONDARY", third]
    dataset.SyntheticData = "YES"
    dataset.BurnedInAnnotation = "NO"
    begins = SYNTHETIC.format(made.modality)
    dataset.SeriesDescription = f"{begins} ({made.source})"[:LONG_STRING]
    dataset.DerivationDescription = made.words
    dataset.DerivationCodeSequence = [_code("TRANSLATION", "99FEDI2I", "Learned image translation")]
    dataset.SeriesNumber = _following(header.get("SeriesNumber"))
    dataset.Manufacturer = _SOFTWARE
    dataset.ManufacturerModelName = made.model[:LONG_STRING]
    dataset.DeviceSerialNumber = made.digest[:16]
    dataset.SoftwareVersions = f"{_SOFTWARE} {__version__}"
    day, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    for name in ("InstanceCreation", "Series", "Content"):
        setattr(dataset, f"{name}Date", day)
        setattr(dataset, f"{name}Time", time)
    dataset.ContributingEquipmentSequence = [_equipment(made, day + time)]


def _following(number: object) -> int:
    """A free series number after the source's; a header may hold a word or several numbers."""
    try:
        given = int(str(number))
    except ValueError:
        given = 0
    return min(max(given, 0) + _SERIES_AFTER, _MOST_NUMBER)


def _refer(dataset: Dataset, source: Dataset, series: Sequence[Dataset]) -> None:
    """Name the slice that one was computed from, and the series that it belongs to."""
    from pydicom import Dataset

    item = _reference(source)
    purpose = _code("121322", "DCM", "Source image for image processing operation")
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.SpatialLocationsPreserved = "YES"
    dataset.SourceImageSequence = [item]
    whole = Dataset()
    whole.SeriesInstanceUID = series[0].get("SeriesInstanceUID", "")
    whole.ReferencedInstanceSequence = [_reference(one) for one in series]
    dataset.ReferencedSeriesSequence = [whole]


def _add_pixels(dataset: Dataset, stored: NDArray[np.uint16], scale: Scale, modality: str) -> None:
    """The voxels of one slice, (columns, rows), and how they are read and shown."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = np.ascontiguousarray(stored.T).astype("<u2").tobytes()
    dataset.AcquisitionNumber = None
    if modality == "CT":
        dataset.KVP = None
        dataset.RescaleIntercept, dataset.RescaleSlope = _HU_OFFSET, 1
        dataset.RescaleType = HOUNSFIELD
        dataset.WindowCenter, dataset.WindowWidth = 40, 400
        return
    dataset.ScanningSequence, dataset.SequenceVariant = "RM", "NONE"
    dataset.ScanOptions = dataset.MRAcquisitionType = ""
    dataset.EchoTime = dataset.RepetitionTime = dataset.EchoTrainLength = None
    dataset.WindowCenter = float(scale.low + scale.high) / 2
    dataset.WindowWidth = float(scale.high - scale.low)


def _equipment(made: Provenance, moment: str) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code("109100", "DCM", "Synthesizing Equipment")]
    item.Manufacturer = _SOFTWARE
    item.ManufacturerModelName = made.model[:LONG_STRING]
    item.SoftwareVersions = f"{_SOFTWARE} {__version__}"
    item.ContributionDateTime = moment
    item.ContributionDescription = made.words
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _reference(header: Dataset) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    # An export may have lost them; the series is worth writing all the same.
    item.ReferencedSOPClassUID = header.get("SOPClassUID", "")
    item.ReferencedSOPInstanceUID = header.get("SOPInstanceUID", "")
    if "ReferencedFrameNumber" in header:  # of a multi-frame file
        item.ReferencedFrameNumber = header.ReferencedFrameNumber
    return item


def _check(folder: Path, headers: Sequence[Dataset], values: NDArray[np.float32]) -> None:
    """Read the series back: as many slices, of the same patient, at the same places.

    Values are within half a step of those that were to be written, or at an end of what fits.
    """
    import pydicom

    read = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    same = len(read) == len(headers) == len({one.SOPInstanceUID for one in read})
    for index, (one, header) in enumerate(zip(read, headers, strict=False)):
        same = same and all(
            one[name].value == header[name].value for name in _COPIED if name in header
        )
        low = float(one.get("RescaleIntercept", 0))
        wanted = np.clip(values[:, :, index], low, low + _MOST)
        same = same and bool(np.abs(one.pixel_array.T + low - wanted).max() <= _HALF_A_STEP)
    if not same:
        raise DataError(f"{folder}: what was written differs from what is read; check the disk")
