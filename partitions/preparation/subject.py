"""From one subject's scans to prepared slices: a pure chain of steps."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions.check.finding import Finding, refuse
from partitions.check.scans import LESION, SubjectScans, SubjectVoxels, open_scans
from partitions.check.subject import header_findings, read_voxels
from partitions.manifest import SubjectRecord
from partitions.preparation.configuration import PreparationConfig
from partitions.preparation.grids import cut_to_size, mask_loss, resample
from partitions.preparation.inputs import domains_of, sequences_of
from partitions.preparation.intensities import scale_inside, to_levels
from partitions.preparation.masks import mask_of
from partitions.preparation.shifts import shifted
from partitions.preparation.subject_file import SubjectFacts, SubjectSlices
from partitions.scans.grid import axes_of
from partitions.scans.volume import Volume

logger = logging.getLogger(__name__)
MAX_MASK_LOSS = 0.005
"""Largest part of the mask that may fall outside the prepared slices."""


def prepare_subject(record: SubjectRecord, root: Path, config: PreparationConfig) -> SubjectSlices:
    """Read, check, scale, resample and cut the scans of one subject.

    Raises:
        DataError: a scan cannot be used, see the rules of ``partitions.check``; the mask does not
            fit; a scan is constant inside it; a voxel size is needed and unknown.
    """
    if config.spacing is not None and not record.has_voxel_size:
        raise DataError(
            f"subject '{record.subject}': its voxel size is unknown, so it cannot be resampled to "
            f"{config.spacing:g} mm; set 'spacing: null' in the preparation configuration"
        )
    with _one_torch_thread():
        subject = open_scans(record, root, sequences_of(config))
        voxels, findings = _read(subject)
        mask, foreground = mask_of(voxels, config)
        domains = domains_of(record, config)
        volumes = {name: voxels.scans[config.sequence(name)].volume for name in domains}
        images = {name: _scaled(volume, mask, config) for name, volume in volumes.items()}
        images = shifted(images, mask, volumes[domains[0]].voxel_size(), record)
        masks = {"mask": mask}
        if LESION in voxels.scans:
            lesion = voxels.scans[LESION]
            masks["lesion"] = lesion.scan.values.inside(lesion.volume.data)
        facts = SubjectFacts(
            foreground,
            *_acquired(subject, config.sequence(domains[0])),
            findings=_kept_findings(findings, root),
            digests=dict(voxels.digests),
        )
        return _cut(record, volumes[domains[0]], images, masks, config, facts)


def _read(subject: SubjectScans) -> tuple[SubjectVoxels, list[Finding]]:
    """The voxels of a subject that no rule refuses, and what the rules say besides."""
    found = header_findings(subject)
    refuse(found)
    voxels, more = read_voxels(subject)
    refuse(more)
    return voxels, [*found, *more]


def _acquired(
    subject: SubjectScans, sequence: str
) -> tuple[tuple[float, float, float] | None, str]:
    """Voxel edges and axes of a scan as it is stored."""
    header = subject.scans[sequence].header
    grid = header.grid if header is not None else None
    if grid is None:  # cannot be: its voxels have been read
        raise DataError(f"subject '{subject.record.subject}': '{sequence}' has no voxel grid")
    edges = grid.edges() if subject.record.has_voxel_size else None
    return edges, axes_of(grid.affine)


def _kept_findings(findings: Sequence[Finding], root: Path) -> tuple[dict[str, str], ...]:
    """What the record keeps of findings; files as the manifest names them."""
    return tuple(
        {
            "rule": finding.rule,
            "severity": finding.severity,
            "file": Path(os.path.relpath(finding.file, root)).as_posix() if finding.file else "",
            "sentence": finding.sentence,
        }
        for finding in findings
    )


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
    facts: SubjectFacts,
) -> SubjectSlices:
    resampled = {
        **{name: _resampled(data, grid, config, "bilinear") for name, data in images.items()},
        **{name: _resampled(data, grid, config, "nearest") for name, data in masks.items()},
    }
    whole_mask = resampled["mask"] > 0.5
    if not whole_mask.any():
        raise DataError(
            f"subject '{record.subject}': nothing of its mask is left at {config.spacing} mm; "
            "redraw the mask or leave the subject out"
        )
    cut = {name: cut_to_size(data, whole_mask, config.size) for name, data in resampled.items()}
    mask = cut["mask"] > 0.5
    _check_fit(record, whole_mask, mask, config)
    kept = _kept_slices(record, mask, config)
    levels = {name: to_levels(_as_slices(cut[name], kept)) for name in images}
    lesion = cut.get("lesion")
    return SubjectSlices(
        source=levels.get("source"),
        target=levels.get("target"),
        mask=_as_slices(mask, kept).astype(np.uint8),
        lesion=None if lesion is None else _as_slices(lesion > 0.5, kept).astype(np.uint8),
        kept=tuple(int(index) for index in kept),
        spacing=_spacing_of(record, grid, config),
        facts=facts,
    )


def _resampled(
    data: NDArray[np.float32] | NDArray[np.bool_],
    grid: Volume,
    config: PreparationConfig,
    mode: str,
) -> NDArray[np.float32]:
    return resample(np.asarray(data, dtype=np.float32), grid.affine, config.spacing, mode)


def _kept_slices(
    record: SubjectRecord, mask: NDArray[np.bool_], config: PreparationConfig
) -> NDArray[np.intp]:
    fraction = mask.mean(axis=(0, 1))
    kept = np.flatnonzero((fraction >= config.min_mask_fraction) & (fraction > 0))
    if kept.size == 0:
        raise DataError(
            f"subject '{record.subject}': no slice has a mask over at least "
            f"{config.min_mask_fraction:.0%} of its area; check the mask, or lower "
            "'min_mask_fraction'"
        )
    return kept


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
    if not record.has_voxel_size:
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
