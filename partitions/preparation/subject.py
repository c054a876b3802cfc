"""From one subject's scans to prepared slices: a pure chain of steps."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedi2i.cores import one_torch_thread
from fedi2i.errors import DataError
from partitions.check.finding import Finding, refuse
from partitions.check.scans import LESION, SubjectScans, SubjectVoxels, open_scans
from partitions.check.subject import read_voxels
from partitions.manifest import SUV_FACTOR, SubjectRecord
from partitions.preparation.configuration import NONE, PreparationConfig
from partitions.preparation.corrections.applied import evened, laid_on_source
from partitions.preparation.corrections.shifts import shifted
from partitions.preparation.grids.cutting import MASK_NAME, cut_slices
from partitions.preparation.inputs import domains_of, scan_findings, sequences_of
from partitions.preparation.intensities import Scale, scale_of
from partitions.preparation.masks import mask_of
from partitions.preparation.scaling import SUV
from partitions.preparation.subject_file import SubjectFacts, SubjectSlices
from partitions.scans.grid import Grid, axes_of
from partitions.scans.volume import Volume


def prepare_subject(record: SubjectRecord, root: Path, config: PreparationConfig) -> SubjectSlices:
    """Read, check, lay on one grid, correct, scale, resample and cut one subject's scans.

    Raises:
        DataError: a scan cannot be used, see the rules of ``partitions.check``; the mask does not
            fit; a scan is constant inside it; a voxel size is needed and unknown.
    """
    _check_voxel_size(record, config)
    with one_torch_thread():
        subject = open_scans(record, root, sequences_of(config))
        voxels, findings = _read(subject, config)
        domains = domains_of(record, config)
        volumes = {
            name: in_unit(voxels.scans[config.sequence(name)].volume, name, config, record.metadata)
            for name in domains
        }
        laid = laid_on_source(volumes, config, subject)
        mask, foreground = mask_of(voxels, laid.volumes, config)
        shown = laid.shown(mask)
        # A new patient's source is seen as a whole, so the source's values are judged likewise.
        inside = {name: shown if name == "target" else mask for name in domains}
        volumes, bias = evened(laid.volumes, inside, config)
        scales = {name: volume_scale(volumes[name], inside[name], name, config) for name in domains}
        masks = {MASK_NAME: shown}
        if LESION in voxels.scans:
            lesion = voxels.scans[LESION]
            masks["lesion"] = laid.shown(lesion.scan.values.inside(lesion.volume.data))
        grid = _stored_grid(subject, config.sequence(domains[0]))
        images = {name: scales[name].to_intensity(volumes[name].data) for name in domains}
        cut = cut_slices(
            shifted(images, shown, volumes[domains[0]].voxel_size(), record, scales),
            masks,
            grid,
            config,
            f"subject '{record.subject}'",
        )
    read = [name for name in domains if name != "target"]
    if read:  # a picture of the source, and its scale, are those of the first contrast there is
        cut.images["source"], scales["source"] = cut.images[read[0]], scales[read[0]]
    several = len(config.contrasts) > 1
    return SubjectSlices(
        source=cut.images.get("source"),
        target=cut.images.get("target"),
        mask=cut.masks[MASK_NAME],
        lesion=cut.masks.get("lesion"),
        geometry=cut.geometry,
        scales=scales,
        spacing=_spacing_of(record, volumes[domains[0]], config),
        facts=SubjectFacts(
            foreground,
            grid.edges() if record.has_voxel_size else None,
            axes_of(grid.affine),
            findings=_kept_findings(findings, root),
            digests=dict(voxels.digests),
            steps=laid.steps | bias,
        ),
        further={name: cut.images[name] for name in read if name != "source"},
        contrasts=tuple(map(config.sequence, read)) if several else (),
    )


def in_unit(
    scan: Volume, domain: str, config: PreparationConfig, metadata: Mapping[str, Any]
) -> Volume:
    """A scan in the unit of its domain's scaling: PET becomes standardised uptake values.

    Raises:
        DataError: the subject's metadata have no factor, or one that is not positive.
    """
    if config.scaling(domain).kind != SUV:
        return scan
    sequence = config.sequence(domain)
    given = metadata.get(f"{sequence}_{SUV_FACTOR}", metadata.get(SUV_FACTOR))
    try:
        factor = float(given if given is not None else "nan")
    except (TypeError, ValueError):
        factor = math.nan
    if not 0 < factor < math.inf:
        raise DataError(
            f"{scan.path}: is scaled by SUV, but '{SUV_FACTOR}' of its metadata is {given!r}; give "
            "what its values are multiplied by to be SUV (body weight in g / injected dose in Bq "
            "for Bq/ml), or 1 where they are SUV"
        )
    return replace(scan, data=scan.data * np.float32(factor))


def _check_voxel_size(record: SubjectRecord, config: PreparationConfig) -> None:
    if record.has_voxel_size:
        return
    if config.spacing is not None:
        raise DataError(
            f"subject '{record.subject}': its voxel size is unknown, so it cannot be resampled to "
            f"{config.spacing:g} mm; set 'spacing: null' in the preparation configuration"
        )
    if (config.registration, config.bias_correction) != (NONE, NONE):
        raise DataError(
            f"subject '{record.subject}': its voxel size is unknown, so it can be neither "
            "registered nor corrected; set 'registration: none' and 'bias_correction: none'"
        )


def _read(subject: SubjectScans, config: PreparationConfig) -> tuple[SubjectVoxels, list[Finding]]:
    """The voxels of a subject that no rule refuses, and what the rules say besides."""
    found = scan_findings(subject, config)
    refuse(found)
    voxels, more = read_voxels(subject)
    refuse(more)
    return voxels, [*found, *more]


def _stored_grid(subject: SubjectScans, sequence: str) -> Grid:
    """The grid of a scan as it is stored."""
    header = subject.scans[sequence].header
    grid = header.grid if header is not None else None
    if grid is None:  # cannot be: its voxels have been read
        raise DataError(f"subject '{subject.record.subject}': '{sequence}' has no voxel grid")
    return grid


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


def volume_scale(
    scan: Volume, mask: NDArray[np.bool_], domain: str, config: PreparationConfig
) -> Scale:
    """The scale of one volume.

    Raises:
        DataError: nothing could be told apart inside the mask.
    """
    try:
        return scale_of(scan.data, mask, config.scaling(domain), config.percentiles)
    except ValueError as error:
        raise DataError(
            f"{scan.path}: the image is constant inside the mask ({error}); replace it or leave "
            "the subject out"
        ) from error


def _spacing_of(
    record: SubjectRecord, grid: Volume, config: PreparationConfig
) -> tuple[float, float, float] | None:
    if not record.has_voxel_size:
        return None
    x, y, z = grid.voxel_size()
    if config.spacing is None:
        return y, x, z
    return config.spacing, config.spacing, z
