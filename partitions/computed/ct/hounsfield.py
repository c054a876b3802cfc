"""Hounsfield units of a computed head's tissues, and from shares of tissue to an image.

Sources:
    Brain, fluid, muscle and fat: the ranges of teaching tables (grey matter 37 to 45, white matter
    20 to 30, fluid 0 to 15, muscle 10 to 60, fat -50 to -120 HU). They give 700 to 3000 HU for
    compact and 300 to 400 HU for cancellous bone; the values of skull and diploe here are choices.
    Lesions lie 5 to 10 HU below white matter. Air is -1000 and water 0 HU by definition.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from partitions.computed.ct.head import LAYERS, HeadFractions

FloatArray = NDArray[np.float64]

AIR_HU = -1000.0

MEAN_AND_SD: dict[str, tuple[float, float]] = {
    "gm": (37.0, 2.0),
    "wm": (28.0, 2.0),
    "csf": (8.0, 3.0),
    "compact": (1500.0, 150.0),
    "diploe": (600.0, 120.0),
    "muscle": (45.0, 4.0),
    "fat": (-90.0, 6.0),
    "skin": (50.0, 4.0),
}
"""Mean over subjects and standard deviation between them, HU."""

LESION_BELOW_WHITE = (5.0, 10.0)

SMALLEST_HU, LARGEST_HU = -1024, 3071
"""What 12 bits hold."""


def draw_hounsfield(rng: np.random.Generator) -> dict[str, float]:
    """One subject's Hounsfield units by tissue, at most 2.5 SD from the means."""
    drawn = {
        name: mean + sd * float(np.clip(rng.standard_normal(), -2.5, 2.5))
        for name, (mean, sd) in MEAN_AND_SD.items()
    }
    return {**drawn, "lesion": drawn["wm"] - float(rng.uniform(*LESION_BELOW_WHITE))}


def hounsfield_image(fractions: HeadFractions, tissues: Mapping[str, float]) -> FloatArray:
    """Share-weighted Hounsfield units of every voxel; what no tissue fills is air.

    Attenuation adds up over the parts of a voxel, and so do Hounsfield units.

    Args:
        fractions: what each voxel holds.
        tissues: HU of ``gm``, ``wm``, ``csf``, ``lesion`` and the layers.
    """
    shares = {name: getattr(fractions.brain, name) for name in ("gm", "wm", "csf", "lesion")}
    shares |= {name: fractions.layers[name] for name in LAYERS}
    image = np.full(fractions.head.shape, AIR_HU)
    for name, share in shares.items():
        image += share * (tissues[name] - AIR_HU)
    return image


def to_int16(image: FloatArray) -> NDArray[np.int16]:
    """Whole Hounsfield units in the scanner's range."""
    return np.clip(np.rint(image), SMALLEST_HU, LARGEST_HU).astype(np.int16)
