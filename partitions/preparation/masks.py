"""The head or brain mask of a subject: its file, or the foreground of a scan without one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions.check.scans import MASK, SubjectVoxels
from partitions.preparation.configuration import PreparationConfig
from partitions.preparation.scaling import HOUNSFIELD, is_computed_tomography
from partitions.scans.foreground import BODY, body_mask, foreground_of
from partitions.scans.volume import Volume

MASK_FILE = "mask file"


def mask_of(
    voxels: SubjectVoxels, volumes: Mapping[str, Volume], config: PreparationConfig
) -> tuple[NDArray[np.bool_], str]:
    """The mask file, else the foreground of the source alone: a new patient has no target.

    Of several contrasts of the source it is that of the first that the subject has. Training
    subjects without a source have theirs from the target, the only scan there is.

    Args:
        voxels: the subject's scans, on one grid.
        volumes: its images by domain, in the unit of their scaling.
        config: which sequences are source and target.

    Returns:
        The mask, and how it was found, see ``SubjectFacts.foreground``.

    Raises:
        DataError: nothing stands out of the scan.
    """
    given = voxels.scans.get(MASK)
    if given is not None:
        return given.scan.values.inside(given.volume.data), MASK_FILE
    domain = next(domain for domain in config.domains if domain in volumes)
    return foreground_in(volumes[domain], domain, config)


def foreground_in(
    scan: Volume, domain: str, config: PreparationConfig
) -> tuple[NDArray[np.bool_], str]:
    """The foreground of a scan, by the rule of its modality.

    In HU it is what is no air, wherever the values outside the scanner's circle lie. A scan that is
    no MR image may have one value around the patient, which says nothing of its foreground.

    Args:
        scan: its axes are turned (LPS).
        domain: ``source`` or ``target``.
        config: how that domain is scaled.

    Returns:
        The mask, and by which rule it was found.

    Raises:
        DataError: nothing stands out of the scan.
    """
    scaling = config.scaling(domain)
    if scaling.unit == HOUNSFIELD:
        mask, how = body_mask(scan.data), BODY
    else:
        magnetic = not scaling.is_fixed and not is_computed_tomography(config.sequence(domain))
        mask, how = foreground_of(scan.data, magnetic)
    if not mask.any():
        raise DataError(
            f"{scan.path}: nothing stands out of the image, so no foreground can be computed; "
            "replace it or leave the subject out"
        )
    return mask, how
