"""How far neighbouring slices lie from each other: in the training, and in a new scan.

A network that is shown neighbouring slices has learnt what they look like at the training's
distances. Preparation never resamples between slices, so that a scan of other slices shows it
neighbours from elsewhere in the body.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lightning_modules.translation.model_card import ModelCard
from partitions.preparation import PreparedSplit
from partitions.preparation.grids.native_grid import SliceGeometry

_TOLERANCE = 0.05
"""Scanners note distances with few digits."""


def slice_distances(splits: Iterable[PreparedSplit]) -> tuple[float, ...]:
    """The smallest and the largest distance between slices of any patient, in mm.

    Empty where no voxel size is known.
    """
    known = [s.spacing[2] for split in splits for s in split.subjects if s.spacing is not None]
    return (round(min(known), 3), round(max(known), 3)) if known else ()


def unlike_training(geometry: SliceGeometry, card: ModelCard) -> str:
    """A sentence where a scan's neighbouring slices are nearer or farther than the training's."""
    if not card.network.neighbours or not card.slice_distances:
        return ""
    apart = float(np.linalg.norm(np.array(geometry.plane_affine)[:3, 2]))
    low, high = card.slice_distances
    if low * (1 - _TOLERANCE) <= apart <= high * (1 + _TOLERANCE):
        return ""
    trained = f"{low:g} mm" if low == high else f"{low:g} to {high:g} mm"
    return (
        f"its slices lie {apart:.3g} mm apart, and those of the training {trained}: the model is "
        "shown neighbouring slices, and has not learnt from such"
    )
