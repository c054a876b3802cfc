"""The prepared slices of one subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from partitions.preparation.configuration import DOMAINS


@dataclass(frozen=True)
class SubjectSlices:
    """The prepared slices of one subject, all arrays (slices, rows, columns).

    Attributes:
        source: 16-bit levels; divided by 65535 the intensity in [0, 1]. None when the subject has
            no such scan.
        target: as ``source``.
        mask: 0 or 1.
        lesion: 0 or 1, or None when the subject has no lesion mask.
        kept: which slices of the scan these are, counted from the feet.
        spacing: pixel height, pixel width and slice distance in mm, or None when unknown.
    """

    source: NDArray[np.uint16] | None
    target: NDArray[np.uint16] | None
    mask: NDArray[np.uint8]
    lesion: NDArray[np.uint8] | None
    kept: tuple[int, ...]
    spacing: tuple[float, float, float] | None

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains in which the subject has a scan."""
        return tuple(domain for domain in DOMAINS if getattr(self, domain) is not None)
