"""Prepared splits of patients whose slices have a texture, drawn from one distribution."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from partitions.preparation import PreparedSplit, PreparedSubject

ROWS, COLUMNS, SLICES = 36, 32, 8


def textured_split(seed: int, patients: int, slices: int = SLICES) -> PreparedSplit:
    """Round slices of coarse shapes under a fine grain; a patient's slices share their shapes.

    The source is the target's negative.
    """
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, ROWS), np.linspace(-1, 1, COLUMNS), indexing="ij")
    mask = x**2 + y**2 < 0.8
    volumes, entries = [], []
    for number in range(patients):
        shapes = gaussian_filter(rng.normal(size=(ROWS, COLUMNS)), 4.0)
        grain = gaussian_filter(rng.normal(size=(slices, ROWS, COLUMNS)), (0, 0.7, 0.7))
        volumes.append(np.clip(0.5 + 1.5 * shapes + 0.15 * grain, 0, 1) * mask)
        start = number * slices
        entries.append(PreparedSubject(f"{seed}-{number}", start, start + slices, None, {}))
    target = np.round(65535 * np.concatenate(volumes)).astype(np.uint16)
    masks = np.repeat(mask[None].astype(np.uint8), len(target), axis=0)
    return PreparedSplit((65535 - target) * masks, target, masks, None, tuple(entries))
