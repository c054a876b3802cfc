"""What one DICOM file says of its slices, without its pixels: one of them, or one per frame.

Where the attributes stand: PS3.3 C.7.6.2 (Image Plane), C.7.6.16 (functional groups of multi-frame
images). See docs/dicom.md for what is left out, and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

NO_PICTURE = "without a picture (reports, plans, DICOMDIR)"
IN_COLOUR = "in colour (captures of a screen)"
NO_IMAGE = "segmentations, dose maps, presentation states and the like"
NO_POSITION = "without a position in the patient (captures, radiographs, projections)"
LOCALIZER = "localizers"

HEADER_TAGS = [
    "AcquisitionNumber",
    "Columns",
    "DiffusionBValue",
    "DimensionIndexSequence",
    "EchoNumbers",
    "EchoTime",
    "FrameOfReferenceUID",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "Modality",
    "NumberOfFrames",
    "PatientID",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelSpacing",
    "Rows",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "SeriesInstanceUID",
    "SharedFunctionalGroupsSequence",
    "StudyInstanceUID",
    "TemporalPositionIdentifier",
]
"""All that is read of a file to sort it: no name, no date, no text."""

_GREY = ("MONOCHROME1", "MONOCHROME2")
_OTHER_MODALITIES = frozenset({"SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "PR", "KO", "SR", "OT"})
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
_PLACES = ("ImagePositionPatient", "InStackPositionNumber", "SliceLocation", "InstanceNumber")
"""Dimensions of a multi-frame image that say where a frame lies, not of which kind it is."""


class LeftOutError(Exception):
    """A file that holds no slice of a volume; the message is one of the reasons above."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice, as its header has it.

    Attributes:
        path: the file.
        frame: its place in a multi-frame file, from 0; None where the file holds one picture.
        patient: PatientID as it stands there; it must not leave the site.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        instance: SOPInstanceUID.
        shape: rows, columns.
        spacing: distance in mm between rows, and between columns.
        orientation: two unit vectors (LPS): where columns are counted to, and where rows are.
        position: of the centre of the first pixel, in mm (LPS).
        kind: what else must be equal within a volume: image type, echo, time, b-value ...
        acquisition: AcquisitionNumber, or "".
    """

    path: Path
    frame: int | None
    patient: str
    study: str
    series: str
    instance: str
    shape: tuple[int, int]
    spacing: tuple[float, float]
    orientation: tuple[float, ...]
    position: tuple[float, float, float]
    kind: tuple[str, ...]
    acquisition: str


def slices_of(header: Dataset, path: Path) -> tuple[Slice, ...]:
    """The slices that one file holds.

    Args:
        header: of the file, without pixels; at least ``HEADER_TAGS``.
        path: the file.

    Raises:
        LeftOutError: it holds none.
        ValueError, TypeError, KeyError, AttributeError: the header is damaged, or describes
            another number of frames than it says there are.
    """
    if "Rows" not in header:
        raise LeftOutError(NO_PICTURE)
    samples = int(header.get("SamplesPerPixel") or 1)
    if samples != 1 or str(header.get("PhotometricInterpretation", _GREY[1])) not in _GREY:
        raise LeftOutError(IN_COLOUR)
    if header.get("Modality") in _OTHER_MODALITIES:
        raise LeftOutError(NO_IMAGE)
    frames = int(header.get("NumberOfFrames") or 1)
    if "PerFrameFunctionalGroupsSequence" in header:
        count = len(header.PerFrameFunctionalGroupsSequence)
        if count != frames:
            raise ValueError(f"{frames} frames and functional groups of {count}")
        return tuple(_slice(header, frame, path) for frame in range(count))
    if frames > 1:
        raise LeftOutError(NO_POSITION)
    return (_slice(header, None, path),)


def value_of_frame(header: Dataset, frame: int | None, sequence: str, keyword: str) -> Any:
    """A value of one frame: from its own functional group, else from the shared one, else None.

    Args:
        header: of the file.
        frame: see `Slice`; for None the value stands at the top.
        sequence: the functional group, e.g. ``PlanePositionSequence``.
        keyword: e.g. ``ImagePositionPatient``.
    """
    if frame is None:
        return header.get(keyword)
    for groups in _groups(header, frame):
        if items := groups.get(sequence):
            value = items[0].get(keyword)
            if value is not None:
                return value
    return None


def _groups(header: Dataset, frame: int) -> Iterator[Dataset]:
    yield header.PerFrameFunctionalGroupsSequence[frame]
    yield from header.get("SharedFunctionalGroupsSequence") or ()


def _slice(header: Dataset, frame: int | None, path: Path) -> Slice:
    types = _image_type(header, frame)
    if types[2:3] == ("LOCALIZER",):
        raise LeftOutError(LOCALIZER)
    position = value_of_frame(header, frame, "PlanePositionSequence", "ImagePositionPatient")
    orientation = value_of_frame(
        header, frame, "PlaneOrientationSequence", "ImageOrientationPatient"
    )
    spacing = value_of_frame(header, frame, "PixelMeasuresSequence", "PixelSpacing")
    if not position or not orientation or not spacing:
        raise LeftOutError(NO_POSITION)
    x, y, z = map(float, position)
    between_rows, between_columns = map(float, spacing)
    return Slice(
        path=path,
        frame=frame,
        patient=_text(header.get("PatientID")).strip(),
        study=_text(header.get("StudyInstanceUID")),
        series=_text(header.get("SeriesInstanceUID")),
        instance=_text(header.get("SOPInstanceUID")),
        shape=(int(header.Rows), int(header.Columns)),
        spacing=(between_rows, between_columns),
        orientation=_six(orientation),
        position=(x, y, z),
        kind=(_text(header.get("FrameOfReferenceUID")), *types[2:], *_kind(header, frame)),
        acquisition=_text(header.get("AcquisitionNumber")),
    )


def _image_type(header: Dataset, frame: int | None) -> tuple[str, ...]:
    """ImageType, or a frame's own; it says what a slice is from the third value on."""
    if frame is not None:
        for sequence in _FRAME_TYPES:
            if found := value_of_frame(header, frame, sequence, "FrameType"):
                return _texts(found)
    return _texts(header.get("ImageType"))


def _kind(header: Dataset, frame: int | None) -> tuple[str, ...]:
    """Echo, time, diffusion, and a frame's place along dimensions that are no directions."""
    if frame is None:
        keywords = ("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue")
        return tuple(_text(header.get(keyword)) for keyword in keywords)
    return (
        _text(value_of_frame(header, frame, "MREchoSequence", "EffectiveEchoTime")),
        _text(value_of_frame(header, frame, "MRDiffusionSequence", "DiffusionBValue")),
        *_dimensions(header, frame),
    )


def _dimensions(header: Dataset, frame: int) -> tuple[str, ...]:
    from pydicom.datadict import keyword_for_tag

    values = value_of_frame(header, frame, "FrameContentSequence", "DimensionIndexValues")
    places = [values] if isinstance(values, int) else list(values or ())
    pointers = [
        keyword_for_tag(item.DimensionIndexPointer)
        for item in header.get("DimensionIndexSequence") or ()
    ]
    pairs = zip(pointers, places, strict=False)
    return tuple(_text(place) for pointer, place in pairs if pointer not in _PLACES)


def _six(values: Any) -> tuple[float, ...]:
    six = tuple(map(float, values))
    if len(six) != 6:
        raise ValueError(f"an orientation of {len(six)} numbers")
    return six


def _texts(value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _text(value: Any) -> str:
    return "" if value is None else str(value)
