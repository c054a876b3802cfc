"""The head or brain mask of a subject: its file, or the foreground of a scan without one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions.check.scans import MASK, SubjectVoxels
from partitions.preparation.configuration import PreparationConfig
from partitions.scans.foreground import foreground_of

MASK_FILE = "mask file"
_HOUNSFIELD = ("ct", "cbct")
"""Beginnings of the names of sequences that are no MR images."""


def mask_of(voxels: SubjectVoxels, config: PreparationConfig) -> tuple[NDArray[np.bool_], str]:
    """The mask file, else the foreground of the source alone: a new patient has no target.

    Training subjects without a source have theirs from the target, the only scan there is.

    Args:
        voxels: the subject's scans, on one grid.
        config: which sequences are source and target.

    Returns:
        The mask, and how it was found, see ``SubjectFacts.foreground``.

    Raises:
        DataError: nothing stands out of the scan.
    """
    given = voxels.scans.get(MASK)
    if given is not None:
        return given.scan.values.inside(given.volume.data), MASK_FILE
    sequence = config.source if config.source in voxels.scans else config.target
    scan = voxels.scans[sequence].volume
    mask, how = foreground_of(scan.data, not sequence.lower().startswith(_HOUNSFIELD))
    if not mask.any():
        raise DataError(
            f"{scan.path}: nothing stands out of the image, so no foreground can be computed; "
            "replace it or leave the subject out"
        )
    return mask, how
