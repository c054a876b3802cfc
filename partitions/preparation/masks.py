"""The head or brain mask of a subject: its file, or the foreground of a scan without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import filters

from fedi2i.errors import DataError
from partitions.preparation.grids import Volume

CLOSING_STEPS = 2


def mask_of(scans: Mapping[str, Volume]) -> NDArray[np.bool_]:
    """The mask file, else the foreground of the source alone: a new patient has no target.

    Training subjects without a source have theirs from the target, the only scan there is.

    Args:
        scans: ``source``, ``target`` and ``mask``, as far as the subject has them; on one grid.

    Raises:
        DataError: the mask is empty, or the scan is constant.
    """
    given = scans.get("mask")
    if given is not None:
        mask = np.asarray(given.data > 0)
        if not mask.any():
            raise DataError(f"{given.path}: the mask is empty; redraw it or leave the subject out")
        return mask
    scan = scans["source"] if "source" in scans else scans["target"]
    mask = foreground_mask(scan.data)
    if not mask.any():
        raise DataError(
            f"{scan.path}: the image is constant, so no foreground can be computed; "
            "replace it or leave the subject out"
        )
    return mask


def foreground_mask(volume: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Otsu threshold, closing, largest component, holes filled.

    The threshold is Otsu's (IEEE Trans. SMC 9, 1979, doi:10.1109/TSMC.1979.4310076) after the
    brightest 0.5 % are clipped, so that a few bright vessels do not move it.

    Args:
        volume: intensities, axes (x, y, z) with z through the slices.

    Returns:
        The mask, the shape of ``volume``; empty when nothing stands out.
    """
    clipped = np.minimum(volume, np.percentile(volume, 99.5))
    if not clipped.max() > clipped.min():
        return np.zeros(volume.shape, dtype=bool)
    otsu: Any = filters.threshold_otsu
    above = np.asarray(clipped > otsu(clipped), dtype=bool)
    whole = _largest_component(_close(above))
    # Slice by slice: sinuses and air cells that open to the outside in 3-D are closed in-plane.
    filled = [ndimage.binary_fill_holes(whole[..., z]) for z in range(whole.shape[-1])]
    return np.stack(filled, axis=-1).astype(bool)


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
