"""Prepare a scan of a new patient, to be translated by a model that was trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedi2i.cores import one_torch_thread
from fedi2i.errors import DataError
from partitions.preparation.configuration import PreparationConfig
from partitions.preparation.corrections.applied import evened
from partitions.preparation.grids.cutting import MASK_NAME, cut_slices
from partitions.preparation.grids.native_grid import SliceGeometry
from partitions.preparation.intensities import Scale
from partitions.preparation.masks import MASK_FILE, foreground_in
from partitions.preparation.subject import in_unit, volume_scale
from partitions.scans.grid import Grid
from partitions.scans.volume import Volume


@dataclass(frozen=True)
class PreparedSource:
    """The slices of one scan; both arrays (slices, rows, columns).

    Attributes:
        source: uint16; divided by 65535 the intensity in [0, 1].
        mask: 0 or 1.
        geometry: where the slices lie in the scan, for the way back.
        scale: of the source.
        foreground: how the mask was found, see ``SubjectFacts.foreground``.
    """

    source: NDArray[np.uint16]
    mask: NDArray[np.uint8]
    geometry: SliceGeometry
    scale: Scale
    foreground: str


def prepare_source(
    scan: Volume,
    grid: Grid,
    config: PreparationConfig,
    mask: NDArray[np.bool_] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> PreparedSource:
    """Prepare one source scan of a new patient, who has no target and stands in no manifest.

    It becomes the very slices that it would become in a cohort.

    Args:
        scan: the scan with its axes turned, as ``read_volume`` gives it.
        grid: of the scan as it is stored; what is translated is written on it.
        config: how the model's training scans were prepared.
        mask: of the head or body, in the axes of ``scan``; None computes the foreground.
        metadata: of the patient; read for ``suv_factor`` alone.

    Raises:
        DataError: the scan cannot be used, in a sentence that names it.
    """
    volume = in_unit(scan, "source", config, metadata or {})
    with one_torch_thread():
        inside, foreground = (
            (mask, MASK_FILE) if mask is not None else foreground_in(volume, "source", config)
        )
        if inside.shape != scan.data.shape or not inside.any():
            raise DataError(
                f"{scan.path}: its mask has {inside.sum()} voxels on a grid of {inside.shape}, the "
                f"scan's grid is {scan.data.shape}; give a mask of the same grid that is not empty"
            )
        volume = evened({"source": volume}, {"source": inside}, config)[0]["source"]
        scale = volume_scale(volume, inside, "source", config)
        images = {"source": scale.to_intensity(volume.data)}
        cut = cut_slices(images, {MASK_NAME: inside}, grid, config, str(scan.path))
    return PreparedSource(
        cut.images["source"], cut.masks[MASK_NAME], cut.geometry, scale, foreground
    )
