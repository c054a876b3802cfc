"""From one subject's scans to prepared slices: a pure chain of steps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions import voxel_size
from partitions.manifest import SubjectRecord
from partitions.preparation.configuration import PreparationConfig
from partitions.preparation.foreground import foreground_mask
from partitions.preparation.in_plane import cut_to_size, mask_loss, resample
from partitions.preparation.intensity import scale_inside, to_levels
from partitions.preparation.slices import SubjectSlices
from partitions.preparation.usable_subjects import domains_of
from partitions.preparation.volume import Volume, check_same_grid, read_volume

logger = logging.getLogger(__name__)
MAX_MASK_LOSS = 0.005
"""Largest part of the mask that may fall outside the prepared slices."""


def prepare_subject(record: SubjectRecord, root: Path, config: PreparationConfig) -> SubjectSlices:
    """Read, check, scale, resample and cut the scans of one subject.

    Raises:
        DataError: a scan cannot be used, see `read_volume` and `check_same_grid`; the mask is
            empty or does not fit; a scan is constant; a voxel size is needed and unknown.
    """
    if config.spacing is not None and not voxel_size.is_known(record):
        raise DataError(
            f"subject '{record.subject}': its voxel size is unknown, so it cannot be resampled to "
            f"{config.spacing:g} mm; set 'spacing: null' in the preparation configuration"
        )
    with _one_torch_thread():
        scans = _read_scans(record, root, config)
        mask = _mask_of(scans)
        domains = domains_of(record, config)
        images = {name: _scaled(scans[name], mask, config) for name in domains}
        masks = {"mask": mask}
        if "lesion" in scans:
            masks["lesion"] = scans["lesion"].data > 0
        return _cut(record, scans[domains[0]], images, masks, config)


def _read_scans(record: SubjectRecord, root: Path, config: PreparationConfig) -> dict[str, Volume]:
    domains = domains_of(record, config)
    paths = {domain: record.files[config.sequence(domain)] for domain in domains}
    if record.mask is not None:
        paths["mask"] = record.mask
    if record.lesion_mask is not None:
        paths["lesion"] = record.lesion_mask
    scans = {name: read_volume(root / path) for name, path in paths.items()}
    for name in paths:
        check_same_grid(scans[name], scans[domains[0]])
    return scans


def _mask_of(scans: dict[str, Volume]) -> NDArray[np.bool_]:
    """The mask file, else the foreground of the source alone: a new patient has no target.

    Training subjects without a source have theirs from the target, the only scan there is.
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


def _scaled(
    scan: Volume, mask: NDArray[np.bool_], config: PreparationConfig
) -> NDArray[np.float32]:
    try:
        return scale_inside(scan.data, mask, config.percentiles)
    except ValueError as error:
        raise DataError(
            f"{scan.path}: the image is constant inside the mask ({error}); replace it or leave "
            "the subject out"
        ) from error


def _cut(
    record: SubjectRecord,
    grid: Volume,
    images: dict[str, NDArray[np.float32]],
    masks: dict[str, NDArray[np.bool_]],
    config: PreparationConfig,
) -> SubjectSlices:
    resampled = {
        name: resample(data, grid.affine, config.spacing, "bilinear")
        for name, data in images.items()
    }
    labels = {
        name: resample(data.astype(np.float32), grid.affine, config.spacing, "nearest")
        for name, data in masks.items()
    }
    whole_mask = labels["mask"] > 0.5
    if not whole_mask.any():
        raise DataError(
            f"subject '{record.subject}': nothing of its mask is left at {config.spacing} mm; "
            "redraw the mask or leave the subject out"
        )
    cut = {
        name: cut_to_size(data, whole_mask, config.size)
        for name, data in {**resampled, **labels}.items()
    }
    mask = cut["mask"] > 0.5
    _check_fit(record, whole_mask, mask, config)
    fraction = mask.mean(axis=(0, 1))
    kept = np.flatnonzero((fraction >= config.min_mask_fraction) & (fraction > 0))
    if kept.size == 0:
        raise DataError(
            f"subject '{record.subject}': no slice has a mask over at least "
            f"{config.min_mask_fraction:.0%} of its area; check the mask, or lower "
            "'min_mask_fraction'"
        )
    lesion = cut.get("lesion")
    levels = {name: to_levels(_as_slices(cut[name], kept)) for name in images}
    return SubjectSlices(
        source=levels.get("source"),
        target=levels.get("target"),
        mask=_as_slices(mask, kept).astype(np.uint8),
        lesion=None if lesion is None else _as_slices(lesion > 0.5, kept).astype(np.uint8),
        kept=tuple(int(index) for index in kept),
        spacing=_spacing_of(record, grid, config),
    )


def _check_fit(
    record: SubjectRecord,
    whole: NDArray[np.bool_],
    cut: NDArray[np.bool_],
    config: PreparationConfig,
) -> None:
    loss, (columns, rows) = mask_loss(whole, cut)
    if loss > MAX_MASK_LOSS:
        raise DataError(
            f"subject '{record.subject}': {loss:.1%} of its mask fall outside slices of "
            f"{config.size[0]} x {config.size[1]} pixels; set 'size' to at least "
            f"[{rows}, {columns}], or a larger 'spacing'"
        )
    if loss > 0:
        logger.warning("subject '%s': %.2f %% of the mask cut off", record.subject, 100 * loss)


def _spacing_of(
    record: SubjectRecord, grid: Volume, config: PreparationConfig
) -> tuple[float, float, float] | None:
    if not voxel_size.is_known(record):
        return None
    x, y, z = grid.voxel_size()
    if config.spacing is None:
        return y, x, z
    return config.spacing, config.spacing, z


def _as_slices(volume: NDArray, kept: NDArray[np.intp]) -> NDArray:  # type: ignore[type-arg]
    """(x, y, z) to (slices, rows, columns): the radiological view, right of the patient at left."""
    return np.ascontiguousarray(volume.transpose(2, 1, 0)[kept])


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Sites are prepared side by side in processes; threads inside them would only compete."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
