"""The values of a slice: decoded, rescaled once, and air where the scanner saw nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions.dicom.slices import value_of_frame

if TYPE_CHECKING:
    from pydicom import Dataset

AIR_HU = -1024.0
NO_SIGNAL = 0.0

_UNITS_OF_CT = ("", "HU", "US")
"""Hounsfield units, or unspecified."""
_TRANSFORM = "PixelValueTransformationSequence"
_REMEDY = "correct the export or leave the series out"


def stored_pixels(dataset: Dataset, path: Path) -> NDArray[Any]:
    """The pixels as stored, before any rescale: (rows, columns), or (frames, rows, columns).

    Raises:
        DataError: they are damaged, or compressed in a way for which no package is installed.
    """
    _check_syntax(dataset, path)
    try:
        pixels: NDArray[Any] = dataset.pixel_array
    except Exception as error:  # every decoder has errors of its own
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: its pixels are damaged ({reason}); copy it again from its source"
        ) from error
    return pixels


def values_of(
    pixels: NDArray[Any], header: Dataset, frame: int | None, path: Path
) -> tuple[NDArray[np.float32], int]:
    """The values of one slice in the series' unit, and how many lie outside what was seen.

    Slope and intercept are those of the slice (PET) or of the frame (PS3.3 C.11.1). MONOCHROME1
    says how a picture is shown and changes no value (C.7.6.3.1.2). Private scales, such as those
    of Philips (2005,100E), are not looked at.

    Args:
        pixels: of the file, as stored.
        header: of the file.
        frame: see `partitions.dicom.slices.Slice`.
        path: the file, for messages.

    Raises:
        DataError: the values are in no known unit, or their rescale is no usable one.
    """
    slope, intercept = _rescale(header, frame, path)
    stored = pixels if frame is None or pixels.ndim == 2 else pixels[frame]
    values = (stored.astype(np.float64) * slope + intercept).astype(np.float32)
    outside = _outside(stored, header)
    if outside is None:
        return values, 0
    values[outside] = air_of(header)
    return values, int(outside.sum())


def air_of(header: Dataset) -> float:
    """What a voxel outside what the scanner saw becomes: air in a CT, no signal elsewhere."""
    return AIR_HU if header.get("Modality") == "CT" else NO_SIGNAL


def _rescale(header: Dataset, frame: int | None, path: Path) -> tuple[float, float]:
    if "ModalityLUTSequence" in header:
        raise DataError(f"{path}: has its values in a table (Modality LUT), which is not read")
    slope = _number_of(header, frame, "RescaleSlope", path)
    intercept = _number_of(header, frame, "RescaleIntercept", path)
    if header.get("Modality") == "CT":
        unit = str(value_of_frame(header, frame, _TRANSFORM, "RescaleType") or "")
        if slope is None or intercept is None:
            raise DataError(f"{path}: is a CT without a rescale, so its values are not in HU")
        if unit not in _UNITS_OF_CT:
            raise DataError(f"{path}: is a CT with values in '{unit}' and not in HU")
    if slope == 0:
        raise DataError(f"{path}: has a RescaleSlope of 0, which makes all values one; {_REMEDY}")
    return 1.0 if slope is None else slope, intercept or 0.0


def _number_of(header: Dataset, frame: int | None, keyword: str, path: Path) -> float | None:
    """A finite number of a frame's rescale, or None where there is none."""
    try:
        value = value_of_frame(header, frame, _TRANSFORM, keyword)
        if value is None or value == "":
            return None
        number = float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: its {keyword} is no number; {_REMEDY}") from error
    if not math.isfinite(number):
        raise DataError(f"{path}: its {keyword} is not finite; {_REMEDY}")
    return number


def _outside(stored: NDArray[Any], header: Dataset) -> NDArray[np.bool_] | None:
    """Pixels of the padding value or range (PS3.3 C.7.5.1.1.2); None where there is none."""
    value = header.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = header.get("PixelPaddingRangeLimit")
    other = limit if isinstance(limit, int) else value
    low, high = sorted(_as_stored(one, stored.dtype) for one in (value, other))
    return np.asarray((stored >= low) & (stored <= high))


def _as_stored(value: int, dtype: np.dtype[Any]) -> int:
    """A padding value of signed pixels that was written as an unsigned number, e.g. 63536."""
    signed = dtype.kind == "i"
    return value - (1 << 8 * dtype.itemsize) if signed and value > np.iinfo(dtype).max else value


def _check_syntax(dataset: Dataset, path: Path) -> None:
    """Refuse a compression for which no package is installed, before a page of reasons comes."""
    from pydicom import uid
    from pydicom.pixels.decoders.base import get_decoder

    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    if syntax is None:
        raise DataError(f"{path}: does not say how its pixels are stored (transfer syntax)")
    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        usable = get_decoder(syntax).is_available
    except NotImplementedError:
        usable = False
    twelve_bits = syntax == uid.JPEGExtended12Bit and int(dataset.get("BitsStored", 8)) > 8
    if twelve_bits and "pylibjpeg" not in get_decoder(syntax).available_plugins:
        usable = False
    if not usable:
        package = "pylibjpeg-libjpeg" if twelve_bits else "'fedi2i[dicom]'"
        raise DataError(
            f"{path}: is compressed as {syntax.name}, which is not read here; "
            f"pip install {package}, or export the series without compression"
        )
