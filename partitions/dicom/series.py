"""Read a series: its voxels in their unit, where they lie, and the headers they came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fedi2i.errors import DataError
from partitions.dicom.folder import in_silence
from partitions.dicom.geometry import GeometryError, Stack, stack_of
from partitions.dicom.groups import Group
from partitions.dicom.slices import Slice
from partitions.dicom.values import air_of, stored_pixels, values_of
from partitions.scans.grid import Affine

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True)
class SeriesVolume:
    """One volume of a series.

    Attributes:
        data: values in the series' unit (HU in a CT), axes (column, row, slice).
        affine: 4x4, voxel index to position in mm (RAS).
        slices: where each slice came from, in the order of the last axis.
        headers: the whole header of each slice's file, without pixels, in the same order. The
            slices of a multi-frame file share one.
        padded: voxels outside what the scanner saw, set to the value of air.
        lossy: whether some slice was compressed with losses.
        tilt: the angle in degrees that was taken out by resampling; 0 where there was none. With a
            tilt the slices of ``data`` are not those of ``slices``.
    """

    data: NDArray[np.float32]
    affine: Affine
    slices: tuple[Slice, ...]
    headers: tuple[Dataset, ...]
    padded: int
    lossy: bool
    tilt: float = 0.0


@in_silence()
def read_series(group: Group, straighten: bool = False) -> SeriesVolume:
    """Read the voxels of a group of slices.

    Args:
        group: slices of one volume.
        straighten: resample a tilted stack to slices that lie above each other. It is refused
            otherwise: NIfTI could hold it, and much software would read it wrongly.

    Raises:
        DataError: the slices are no even stack, a file is damaged or gone, its compression needs a
            package that is not installed, or its values are in no known unit.
    """
    stack = _stack(group)
    if stack.tilt and not straighten:
        raise DataError(
            f"{group.text()}: the stack is tilted by {stack.tilt:.1f} degrees (gantry tilt); "
            "resample it with '--straighten', or leave it out"
        )
    ordered = tuple(group.slices[index] for index in stack.order)
    rows, columns = group.first.shape
    data = np.empty((columns, rows, len(ordered)), dtype=np.float32)
    headers: dict[Path, Dataset] = {}
    padded = 0
    for path, pixels, header in _files(ordered):
        headers[path] = header
        for place in (index for index, one in enumerate(ordered) if one.path == path):
            values, outside = values_of(pixels, header, ordered[place].frame, path)
            data[:, :, place] = values.T
            padded += outside
    volume = SeriesVolume(
        data=data,
        affine=stack.affine,
        slices=ordered,
        headers=tuple(headers[one.path] for one in ordered),
        padded=padded,
        lossy=any(header.get("LossyImageCompression") == "01" for header in headers.values()),
    )
    return _straightened(volume, stack.tilt) if stack.tilt else volume


def _stack(group: Group) -> Stack:
    first = group.first
    try:
        return stack_of([one.position for one in group.slices], first.orientation, first.spacing)
    except GeometryError as error:
        raise DataError(f"{group.text()}: {error}; correct the export or leave it out") from error


def _files(slices: tuple[Slice, ...]) -> Iterator[tuple[Path, NDArray[Any], Dataset]]:
    """Each file once: its pixels as stored, and its header, from which they are taken."""
    from pydicom import dcmread

    for path in dict.fromkeys(one.path for one in slices):
        try:
            header = dcmread(path)
        except Exception as error:  # see `read_slices`
            raise DataError(f"{path}: cannot be read any more ({error})") from error
        pixels = stored_pixels(header, path)
        for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
            if keyword in header:
                del header[keyword]
        yield path, pixels, header


def _straightened(volume: SeriesVolume, tilt: float) -> SeriesVolume:
    """Resample a sheared volume, linearly, to slices of the same planes above each other."""
    sheared = volume.affine
    across = sheared[:3, :2] / np.linalg.norm(sheared[:3, :2], axis=0)
    step = sheared[:3, 2]
    straight = sheared.copy()
    straight[:3, 2] = step - across @ (across.T @ step)
    columns, rows, count = volume.data.shape
    # How far the last slice lies beside the first one, in columns and rows.
    shift = (count - 1) * np.linalg.solve(sheared[:3, :3], step - straight[:3, 2])[:2]
    low = np.floor(np.minimum(shift, 0)).astype(int)
    high = np.ceil(np.maximum(shift, 0)).astype(int)
    straight[:3, 3] += straight[:3, :2] @ low
    size = (columns + high[0] - low[0], rows + high[1] - low[1], count)
    to_old = np.linalg.solve(sheared, straight)
    data = ndimage.affine_transform(
        volume.data,
        to_old[:3, :3],
        to_old[:3, 3],
        output_shape=size,
        order=1,
        cval=air_of(volume.headers[0]),
    )
    return replace(volume, data=data.astype(np.float32), affine=straight, tilt=tilt)
