"""Which voxels belong to a mask: two values by themselves, anything else as it is declared."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LABELS = "labels"
DECLARATIONS = f"'{LABELS}' or a threshold like '>0.5'"

_THRESHOLD = re.compile(r">\s*([-+.\deE]+)")


@dataclass(frozen=True)
class MaskValues:
    """What the values of a mask mean.

    Attributes:
        labels: whether it is a label map, of which every label belongs to the mask.
        above: voxels above this value belong to the mask; None where nothing was declared, and
            the mask must hold two values.
    """

    labels: bool = False
    above: float | None = None

    def inside(self, data: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The voxels that belong to the mask."""
        return np.asarray(data > (self.above or 0.0))


def mask_values(declared: str) -> MaskValues | None:
    """Read a declaration: nothing, ``labels``, or a threshold like ``>0.5``; None if it is none."""
    text = declared.strip().lower()
    if text in ("", LABELS):
        return MaskValues(labels=text == LABELS)
    hit = _THRESHOLD.fullmatch(text)
    try:
        above = float(hit.group(1)) if hit else math.nan
    except ValueError:
        return None
    return MaskValues(above=above) if math.isfinite(above) else None


def is_binary(data: NDArray[np.float32]) -> bool:
    """Whether the voxels are 0 and at most one other value, which is positive."""
    others = data[data != 0]
    return not others.size or bool(others[0] > 0 and (others == others[0]).all())
