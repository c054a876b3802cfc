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
    """The slices of one patient; all arrays (slices, rows, columns).

    Attributes:
        source: uint16; divided by 65535 the intensity in [0, 1]. Of several contrasts the first
            that there is.
        mask: 0 or 1.
        geometry: where the slices lie in the scan, for the way back.
        scale: of the source.
        foreground: how the mask was found, see ``SubjectFacts.foreground``.
        contrasts: all contrasts of the source behind each other, (contrasts * slices, rows,
            columns), 0 where one is missing; None where the source is one contrast.
    """

    source: NDArray[np.uint16]
    mask: NDArray[np.uint8]
    geometry: SliceGeometry
    scale: Scale
    foreground: str
    contrasts: NDArray[np.uint16] | None = None

    @property
    def shown(self) -> NDArray[np.uint16]:
        """What the generator is shown: the source, or all its contrasts behind each other."""
        return self.source if self.contrasts is None else self.contrasts


def prepare_source(
    scan: Volume,
    grid: Grid,
    config: PreparationConfig,
    mask: NDArray[np.bool_] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> PreparedSource:
    """Prepare the one source scan of a new patient; see ``prepare_contrasts``."""
    return prepare_contrasts({"source": scan}, grid, config, mask, metadata)


def prepare_contrasts(
    scans: Mapping[str, Volume],
    grid: Grid,
    config: PreparationConfig,
    mask: NDArray[np.bool_] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> PreparedSource:
    """Prepare the source of a new patient, who has no target and stands in no manifest.

    It becomes the very slices that it would become in a cohort.

    Args:
        scans: by domain, one at least and all on one grid; with their axes turned, as
            ``read_volume`` gives them.
        grid: of the first scan as it is stored; what is translated is written on it.
        config: how the model's training scans were prepared.
        mask: of the head or body, in the axes of the scans; None computes the foreground of the
            first of them.
        metadata: of the patient; read for ``suv_factor`` alone.

    Raises:
        DataError: the scan cannot be used, in a sentence that names it.
    """
    there = [domain for domain in config.contrasts if domain in scans]
    volumes = {name: in_unit(scans[name], name, config, metadata or {}) for name in there}
    first, path = there[0], scans[there[0]].path
    with one_torch_thread():
        inside, foreground = (
            (mask, MASK_FILE) if mask is not None else foreground_in(volumes[first], first, config)
        )
        if inside.shape != volumes[first].data.shape or not inside.any():
            raise DataError(
                f"{path}: its mask has {inside.sum()} voxels on a grid of {inside.shape}, the "
                f"scan's grid is {volumes[first].data.shape}; give a mask of the same grid that is "
                "not empty"
            )
        volumes = evened(volumes, dict.fromkeys(there, inside), config)[0]
        scales = {name: volume_scale(volumes[name], inside, name, config) for name in there}
        images = {name: scales[name].to_intensity(volumes[name].data) for name in there}
        cut = cut_slices(images, {MASK_NAME: inside}, grid, config, str(path))
    source = cut.images[first]
    several = [cut.images.get(name, np.zeros_like(source)) for name in config.contrasts]
    return PreparedSource(
        source,
        cut.masks[MASK_NAME],
        cut.geometry,
        scales[first],
        foreground,
        np.concatenate(several) if len(several) > 1 else None,
    )
