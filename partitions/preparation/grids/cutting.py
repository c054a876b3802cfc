"""From scaled volumes on one grid to slices of one size: resample, cut, select."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions.preparation.configuration import MOST_PIXELS_A_SIDE, PreparationConfig
from partitions.preparation.grids.native_grid import SliceGeometry, geometry_of
from partitions.preparation.grids.resampling import mask_loss, plane_of, window_on
from partitions.preparation.intensities import to_levels
from partitions.scans.grid import Affine, Grid, to_lps

logger = logging.getLogger(__name__)
MASK_NAME = "mask"
MAX_MASK_LOSS = 0.005
"""Largest part of the mask that may fall outside the prepared slices."""


@dataclass(frozen=True)
class CutSlices:
    """What was cut out, all arrays (slices, rows, columns).

    Attributes:
        images: uint16 levels by name.
        masks: uint8, 0 or 1, by name.
        geometry: where the slices lie in the scan.
    """

    images: dict[str, NDArray[np.uint16]]
    masks: dict[str, NDArray[np.uint8]]
    geometry: SliceGeometry


def cut_slices(
    images: Mapping[str, NDArray[np.float32]],
    masks: Mapping[str, NDArray[np.bool_]],
    grid: Grid,
    config: PreparationConfig,
    owner: str,
) -> CutSlices:
    """Resample volumes in the plane of their slices, cut them to size, and select slices.

    Args:
        images: intensities in [0, 1] by name; the axes are turned (LPS).
        masks: likewise; ``mask`` says where to cut and which slices to keep.
        grid: of the scan as it is stored, its axes not turned.
        config: pixel size, size, and how much mask a slice needs.
        owner: whose scan it is, at the beginning of messages: ``subject 'a'``.

    Raises:
        DataError: the pixels are too small, the mask vanishes or does not fit into the slices, or
            no slice has enough of it.
    """
    affine = to_lps(grid)[1].affine
    _check_sides(owner, masks[MASK_NAME].shape, affine, config.spacing)
    plane = plane_of(masks[MASK_NAME].shape, affine, config.spacing)
    whole_mask = plane.sampled(masks[MASK_NAME].astype(np.float32), "nearest") > 0.5
    if not whole_mask.any():
        raise DataError(
            f"{owner}: nothing of its mask is left at {config.spacing} mm; redraw the mask or "
            "leave the subject out"
        )
    window = window_on(whole_mask, config.size)
    mask = window.padded(whole_mask[window.part])
    _check_fit(owner, whole_mask, mask, config)
    kept = _kept_slices(owner, mask, config)

    def cut(data: NDArray[np.float32] | NDArray[np.bool_], mode: str) -> NDArray[np.float32]:
        found = plane.sampled(np.asarray(data, np.float32), mode, window.part, kept)
        return _as_slices(window.padded(found))

    others = {name: data for name, data in masks.items() if name != MASK_NAME}
    return CutSlices(
        images={name: to_levels(cut(data, "bilinear")) for name, data in images.items()},
        masks={
            MASK_NAME: _as_slices(mask[..., kept]).astype(np.uint8),
            **{
                name: (cut(data, "nearest") > 0.5).astype(np.uint8) for name, data in others.items()
            },
        },
        geometry=geometry_of(grid, plane.affine, window.corner, kept),
    )


def _check_sides(owner: str, shape: tuple[int, ...], affine: Affine, spacing: float | None) -> None:
    """Refuse pixels so small that one plane of them would not fit into memory."""
    if spacing is None:
        return
    sides = np.asarray(shape[:2]) * np.linalg.norm(affine[:3, :2], axis=0) / spacing
    if not sides.max() <= MOST_PIXELS_A_SIDE:
        raise DataError(
            f"{owner}: would have {sides.max():.0f} pixels a side at {spacing:g} mm, and "
            f"{MOST_PIXELS_A_SIDE} are the most; set a larger 'spacing'"
        )


def _kept_slices(
    owner: str, mask: NDArray[np.bool_], config: PreparationConfig
) -> NDArray[np.intp]:
    fraction = mask.mean(axis=(0, 1))
    kept = np.flatnonzero((fraction >= config.min_mask_fraction) & (fraction > 0))
    if kept.size == 0:
        raise DataError(
            f"{owner}: no slice has a mask over at least {config.min_mask_fraction:.0%} of its "
            "area; check the mask, or lower 'min_mask_fraction'"
        )
    return kept


def _check_fit(
    owner: str, whole: NDArray[np.bool_], cut: NDArray[np.bool_], config: PreparationConfig
) -> None:
    loss, (columns, rows) = mask_loss(whole, cut)
    if loss > MAX_MASK_LOSS:
        raise DataError(
            f"{owner}: {loss:.1%} of its mask fall outside slices of "
            f"{config.size[0]} x {config.size[1]} pixels; set 'size' to at least "
            f"[{rows}, {columns}], or a larger 'spacing'"
        )
    if loss > 0:
        logger.warning("%s: %.2f %% of the mask cut off", owner, 100 * loss)


def _as_slices(volume: NDArray) -> NDArray:  # type: ignore[type-arg]
    """(x, y, z) to (slices, rows, columns): the radiological view, right of the patient at left."""
    return np.ascontiguousarray(volume.transpose(2, 1, 0))
