"""A subject's target and mask as they are stored, to measure a translation against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions.check.scans import LESION, MASK, ScanVoxels, SubjectVoxels, open_scans
from partitions.manifest import SubjectRecord
from partitions.preparation.configuration import PreparationConfig
from partitions.preparation.inputs import sequences_of
from partitions.preparation.masks import mask_of
from partitions.preparation.subject import in_unit
from partitions.scans.volume import DamagedScanError, read_volume


@dataclass(frozen=True)
class StoredTarget:
    """Both of shape (x, y, z), on the voxels of the scan, its axes turned (see ``Volume``).

    Attributes:
        values: in the unit of the target, not clipped.
        mask: the mask file, or the foreground that preparation computed.
    """

    values: NDArray[np.float32]
    mask: NDArray[np.bool_]


def stored_target(record: SubjectRecord, root: Path, config: PreparationConfig) -> StoredTarget:
    """Read a subject's target and mask again; without a mask file the source's scans, too.

    Raises:
        DataError: a scan has become unreadable since it was prepared.
    """
    sequences = [config.target] if record.mask else sequences_of(config)
    subject = open_scans(record, root, sequences)
    read = {}
    for name, scan in subject.scans.items():
        if name == LESION:
            continue
        try:
            read[name] = ScanVoxels(scan, read_volume(scan.file))
        except DamagedScanError as damage:
            raise DataError(
                f"{scan.file.path}: cannot be read again ({damage}); it was readable when it was "
                "prepared, so check the disk"
            ) from damage
    voxels = SubjectVoxels(record, read, {})
    domains = {config.sequence(domain): domain for domain in config.domains}
    volumes = {
        domains[name]: in_unit(one.volume, domains[name], config, record.metadata)
        for name, one in read.items()
        if name != MASK
    }
    mask, _ = mask_of(voxels, volumes, config)
    return StoredTarget(volumes["target"].data, mask)
