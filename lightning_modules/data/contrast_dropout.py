"""Contrasts of a source that are missing, or taken away in training as though they were.

A generator that never lacked a contrast in training does not know what to do without it. Contrasts
are therefore taken away at random ("modality dropout"), which also makes up for the sites whose
patients lack the same one (zero-filled channels and drawn sets of contrasts: Sharma and Hamarneh,
IEEE Transactions on Medical Imaging 2020, doi:10.1109/TMI.2019.2945521).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.data.slices import Batch

DROPOUT = "contrast dropout"
"""What draws of this file are for."""
_EMPTY = -1.0
"""What a network is shown in place of a contrast that is missing: intensity 0, as around a head."""


def kept_contrasts(
    present: NDArray[np.bool_], rate: float, randoms: Sequence[np.random.Generator]
) -> NDArray[np.bool_]:
    """Which contrasts a generator is shown of every slice; never none.

    With probability ``rate`` a slice that has several contrasts loses some of them. What is left of
    them is drawn evenly among all smaller sets, the empty one excepted: of two contrasts each stays
    alone equally often, and of m contrasts the rate (2^m - 2) / (2^m - 1) shows every set equally
    often. Independent coins would make rare sets of many contrasts rarer still.

    Args:
        present: which of its contrasts every slice has, (n, contrasts); one at least.
        rate: from 0 to 1.
        randoms: a random state for every slice.
    """
    kept = present.copy()
    for row, random in zip(kept, randoms, strict=True):
        held = np.flatnonzero(row)
        if len(held) > 1 and random.random() < rate:
            chosen = int(random.integers(1, 2 ** len(held) - 1))
            row[held] = [bool(chosen >> place & 1) for place in range(len(held))]
    return kept


def emptied(batch: Batch, kept: NDArray[np.bool_]) -> Batch:
    """A batch whose source (n, contrasts, rows, columns) is empty where a contrast is not kept."""
    where = torch.from_numpy(kept)[:, :, None, None]
    source = batch["source"]
    return {**batch, "source": torch.where(where, source, torch.full_like(source, _EMPTY))}
