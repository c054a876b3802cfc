"""How far a new scan lies from the scans of the training, as prepared slices show it.

The measure is the Wasserstein-1 distance (Ramdas et al., Entropy 2017, doi:10.3390/e19020047) of
histograms on one grid: the area between the two cumulative histograms, in parts of the scale.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lightning_modules.translation.model_card import BINS, SourceIntensities
from partitions.preparation import PreparedSplit

FAR = 2.0
"""A scan is far away when it is that many times farther than the farthest training patient ..."""
LEAST_FAR = 0.05
"""... and at least so far, in parts of the scale: a few training patients may be much alike."""
_LEVELS = 65535.0


def histogram(slices: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Which part of the pixels inside the mask lies in each bin.

    Args:
        slices: intensities in [0, 1], any shape.
        mask: true inside the body; the same shape, not empty.
    """
    counts, _ = np.histogram(slices[mask], bins=BINS, range=(0.0, 1.0))
    return np.asarray(counts / max(int(counts.sum()), 1), dtype=np.float64)


def distance(one: Iterable[float], other: Iterable[float]) -> float:
    """Wasserstein-1 distance of two histograms on [0, 1], in parts of the scale."""
    first, second = (np.cumsum(np.fromiter(shares, float)) for shares in (one, other))
    return float(np.abs(first - second).mean())


def source_intensities(splits: Iterable[PreparedSplit]) -> SourceIntensities | None:
    """The training's source scans as a model file keeps them; None where there is none."""
    found = [
        histogram(
            np.asarray(split.source[where] / _LEVELS, dtype=np.float32), split.mask[where] > 0
        )
        for split in splits
        for subject in split.subjects
        if "source" in subject.domains
        for where in [slice(subject.start, subject.stop)]
    ]
    if not found:
        return None
    mean = np.mean(found, axis=0)
    return SourceIntensities(
        tuple(round(float(share), 6) for share in mean),
        round(max(distance(one, mean) for one in found), 6),
    )


def far_from_training(
    slices: NDArray[np.float32], mask: NDArray[np.bool_], training: SourceIntensities
) -> str:
    """A sentence with figures where a scan lies far from the training's; empty where it does not.

    Args:
        slices: the prepared source, intensities in [0, 1].
        mask: true inside the body.
        training: what the model file says.
    """
    apart = distance(histogram(slices, mask), training.shares)
    if apart <= max(FAR * training.spread, LEAST_FAR):
        return ""
    return (
        f"its intensities lie {apart:.3f} of the scale away from the mean training patient, and "
        f"the farthest training patient {training.spread:.3f}: the translation may mean nothing"
    )
