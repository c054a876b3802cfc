"""Small pictures of a subject's scans, for the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from partitions.check.scans import LESION, MASK, ScanVoxels, SubjectVoxels
from partitions.scans.volume import Volume

HEIGHT = 128
"""Pixels from top to bottom."""

_OUTLINES = {MASK: (86, 180, 233), LESION: (230, 159, 0)}


@dataclass(frozen=True)
class Picture:
    """One slice of every scan of a subject.

    Attributes:
        site: the site.
        subject: the subject.
        panels: the scan's name and its slice as a PNG file in base64, front of the patient at the
            top and right of the patient at the left.
    """

    site: str
    subject: str
    panels: tuple[tuple[str, str], ...]


def pictures_of(subject: SubjectVoxels) -> Picture:
    """The axial slice with the largest mask, or the middle one, of each image of a subject.

    Masks on the image's grid are outlined: the head or brain blue, the lesion orange.
    """
    panels = []
    for name, voxels in subject.scans.items():
        if not voxels.scan.is_mask:
            masks = _masks_like(voxels.volume, subject)
            panels.append((name, _panel(voxels.volume, masks)))
    return Picture(subject.record.site, subject.record.subject, tuple(panels))


def _masks_like(volume: Volume, subject: SubjectVoxels) -> dict[str, NDArray[np.bool_]]:
    found = {name: subject.scans[name] for name in _OUTLINES if name in subject.scans}
    return {
        name: _inside(voxels)
        for name, voxels in found.items()
        if voxels.volume.data.shape == volume.data.shape
    }


def _inside(voxels: ScanVoxels) -> NDArray[np.bool_]:
    return voxels.scan.values.inside(voxels.volume.data)


def _panel(volume: Volume, masks: dict[str, NDArray[np.bool_]]) -> str:
    slices = volume.data.shape[2]
    areas = [mask.sum(axis=(0, 1)) for mask in masks.values()]
    index = int(areas[0].argmax()) if areas and areas[0].any() else slices // 2
    picture = _grey(volume.data[:, :, index].T)
    for name, mask in masks.items():
        inside = mask[:, :, index].T
        picture[inside & ~ndimage.binary_erosion(inside)] = _OUTLINES[name]
    return _png(picture, volume.voxel_size())


def _grey(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey levels between two percentiles, as red, green and blue."""
    finite = np.nan_to_num(pixels, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(finite, (0.5, 99.5))
    scaled = np.clip((finite - low) / max(float(high - low), 1e-12), 0.0, 1.0)
    return np.repeat((scaled * 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)


def _png(picture: NDArray[np.uint8], edges: tuple[float, float, float]) -> str:
    rows, columns = picture.shape[:2]
    width = round(HEIGHT * (columns * edges[0]) / (rows * edges[1]))
    image = Image.fromarray(picture).resize((min(max(width, 1), 4 * HEIGHT), HEIGHT))
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
