"""Turn 2D arrays into inlined PNG pictures: grey slices, error maps, outlined lesion crops."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.image import imsave
from scipy import ndimage

from report.run.records import Slice

ERROR_COLOURS = "inferno"
OUTLINE_RGB = (0, 229, 255)
ZOOM_SIDE_PIXELS = 216
SMALLEST_CROP = 24
MARGIN = 4

Rgb = npt.NDArray[np.uint8]
Box = tuple[slice, slice]


def grey(picture: Slice) -> Rgb:
    """Intensities of [0, 1] as grey, shape (rows, columns, 3); the window is always [0, 1]."""
    levels = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return np.repeat(levels[:, :, np.newaxis], 3, axis=2)


def error_colours(error: Slice, largest: float) -> Rgb:
    """|error| in the window [0, ``largest``]; larger errors take the top colour."""
    scaled = np.clip(error / largest, 0, 1)
    return np.asarray(colormaps[ERROR_COLOURS](scaled, bytes=True)[:, :, :3])


def absolute_error(prediction: Slice, target: Slice, mask: Slice | None) -> Slice:
    """|prediction - target|, 0 outside the mask, where no metric looks."""
    error = np.abs(prediction - target)
    return error if mask is None else np.where(mask > 0.5, error, np.float32(0))


def content_box(mask: Slice | None, shape: tuple[int, ...]) -> Box:
    """The rectangle around the mask with a margin of 4 pixels, inside the picture."""
    if mask is None or not (mask > 0.5).any():
        return slice(0, shape[0]), slice(0, shape[1])
    rows, columns = ndimage.find_objects((mask > 0.5).astype(int))[0]
    return _widen(rows, MARGIN, shape[0]), _widen(columns, MARGIN, shape[1])


def lesion_box(lesion: Slice) -> Box:
    """A square around the lesion, half as large again, at least 24 pixels, inside the picture."""
    rows, columns = ndimage.find_objects((lesion > 0.5).astype(int))[0]
    extent = max(rows.stop - rows.start, columns.stop - columns.start)
    side = min(max(round(1.5 * extent) + 2 * MARGIN, SMALLEST_CROP), *lesion.shape)
    return _square(rows, side, lesion.shape[0]), _square(columns, side, lesion.shape[1])


def has_lesion(lesion: Slice | None) -> bool:
    """True when the slice meets the lesion."""
    return lesion is not None and bool((lesion > 0.5).any())


def zoomed_lesion(picture: Slice, lesion: Slice, box: Box) -> Rgb:
    """The crop, enlarged by linear interpolation, with the lesion's outline."""
    crop = picture[box]
    factor = ZOOM_SIDE_PIXELS / crop.shape[0]
    colours = grey(ndimage.zoom(crop, factor, order=1))
    inside = ndimage.zoom((lesion[box] > 0.5).astype(np.float32), factor, order=1) > 0.5
    outline = inside & ~ndimage.binary_erosion(inside, iterations=2, border_value=1)
    colours[outline] = OUTLINE_RGB
    return colours


def framed(colours: Rgb, box: Box) -> Rgb:
    """The picture with the one-pixel frame of the crop that is shown enlarged."""
    rows, columns = box
    marked = colours.copy()
    marked[[rows.start, rows.stop - 1], columns] = OUTLINE_RGB
    marked[rows, [columns.start, columns.stop - 1]] = OUTLINE_RGB
    return marked


def colour_bar() -> str:
    """A vertical strip of the error colours, largest error on top, as a ``data:`` address."""
    ramp = np.linspace(1, 0, 128, dtype=np.float32)[:, np.newaxis]
    return png_address(error_colours(np.repeat(ramp, 10, axis=1), 1.0))


def png_address(colours: Rgb) -> str:
    """A ``data:`` address of a PNG image."""
    stream = io.BytesIO()
    imsave(stream, np.ascontiguousarray(colours), format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _widen(side: slice, margin: int, size: int) -> slice:
    return slice(max(side.start - margin, 0), min(side.stop + margin, size))


def _square(side: slice, length: int, size: int) -> slice:
    start = (side.start + side.stop - length) // 2
    start = min(max(start, 0), size - length)
    return slice(start, start + length)
