"""The foreground of a scan that has no mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import filters

OTSU = "threshold"
NOT_BACKGROUND = "not background"
BODY = "above -500 HU"
"""The rules: brighter than Otsu's threshold; what is not the constant border; no air in a CT."""

CLOSING_STEPS = 2
LEAST_COVERED = 0.8
"""Otsu's mask covers at least this part of a skull-stripped head. In a whole head whose border was
set to one value it covers about half: the air in front of the face is noise and not background."""
BODY_HU = -500.0
"""Half way between air and water. Otsu's threshold depends on what stands for air: in a computed CT
whose air has one value and whose corners have another, the air would be foreground."""
STANDS_OUT = 0.05
"""A slice shows something if at least this part of it is above the threshold."""


def foreground_of(volume: NDArray[np.float32], magnetic: bool) -> tuple[NDArray[np.bool_], str]:
    """The foreground, and by which rule it was found.

    Where all voxels of all six faces have one value, the scan was skull-stripped: what is not
    background belongs to the head. Otsu's threshold would leave out the dark parts of the brain.

    Args:
        volume: intensities, axes (x, y, z) with z through the slices.
        magnetic: whether the scan is an MR image; a CT has one value outside the patient, too.

    Returns:
        The mask, the shape of ``volume``, empty when nothing stands out; and ``OTSU`` or
        ``NOT_BACKGROUND``.
    """
    bright = foreground_mask(volume)
    border = border_value(volume) if magnetic else None
    if border is not None:
        head = volume != border
        if head.any() and bright[head].mean() >= LEAST_COVERED:
            return _without_gaps(head), NOT_BACKGROUND
    return bright, OTSU


def foreground_mask(volume: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Otsu threshold, closing, largest component, holes filled.

    Args:
        volume: intensities, axes (x, y, z) with z through the slices.

    Returns:
        The mask, the shape of ``volume``; empty when nothing stands out.
    """
    above = _above_threshold(volume)
    if above is None:
        return np.zeros(volume.shape, dtype=bool)
    return _solid(above)


def body_mask(volume: NDArray[np.float32]) -> NDArray[np.bool_]:
    """What is no air in a CT: above ``BODY_HU``, closing, largest component, holes filled.

    Args:
        volume: values in HU, axes (x, y, z) with z through the slices.

    Returns:
        The mask, the shape of ``volume``; empty when there is nothing but air.
    """
    return _solid(volume > BODY_HU)


def _solid(above: NDArray[np.bool_]) -> NDArray[np.bool_]:
    whole = _largest_component(_close(above))
    # Slice by slice: sinuses and air cells that open to the outside in 3-D are closed in-plane.
    filled = [ndimage.binary_fill_holes(whole[..., z]) for z in range(whole.shape[-1])]
    return np.stack(filled, axis=-1).astype(bool)


def slices_that_stand_out(volume: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which slices (last axis) show something: enough of them is above Otsu's threshold."""
    above = _above_threshold(volume)
    if above is None:
        return np.zeros(volume.shape[-1], dtype=bool)
    return np.asarray(above.mean(axis=(0, 1)) >= STANDS_OUT)


def border_value(volume: NDArray[np.float32]) -> float | None:
    """The one value that all voxels of all six faces have, or None."""
    value = volume.flat[0]
    faces = (volume[[0, -1]], volume[:, [0, -1]], volume[:, :, [0, -1]])
    return float(value) if all(bool((face == value).all()) for face in faces) else None


def _above_threshold(volume: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Voxels above Otsu's threshold; None where the scan is constant.

    The threshold is Otsu's (IEEE Trans. SMC 9, 1979, doi:10.1109/TSMC.1979.4310076) after the
    brightest 0.5 % are clipped, so that a few bright vessels do not move it.
    """
    clipped = np.minimum(volume, np.percentile(volume, 99.5))
    if not clipped.max() > clipped.min():
        return None
    otsu: Any = filters.threshold_otsu
    # As a list of values, since a volume of three or four slices looks like colours to skimage.
    return np.asarray(clipped > otsu(clipped.ravel()), dtype=bool)


def _without_gaps(head: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Close gaps of one voxel, keep the largest piece and fill what it encloses."""
    closed = ndimage.binary_closing(np.pad(head, 1))[1:-1, 1:-1, 1:-1]
    whole: NDArray[np.bool_] = ndimage.binary_fill_holes(_largest_component(closed))
    return whole.astype(bool)


def _close(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Close small gaps in-plane; padded first, as closing erodes what touches the border."""
    cross = ndimage.generate_binary_structure(2, 1)[:, :, np.newaxis]
    border = ((CLOSING_STEPS, CLOSING_STEPS), (CLOSING_STEPS, CLOSING_STEPS), (0, 0))
    padded = np.pad(mask, border)
    closed = ndimage.binary_closing(padded, cross, iterations=CLOSING_STEPS)
    inside = slice(CLOSING_STEPS, -CLOSING_STEPS)
    return np.asarray(closed[inside, inside, :], dtype=bool)


def _largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax(), dtype=bool)
