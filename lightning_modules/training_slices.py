"""Training data of one arm: prepared slices, mapped into memory, drawn in a seeded order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from lightning_modules.seeding import derive_seed
from partitions.preparation import PreparedSplit

Batch = dict[str, Tensor]


def to_intensity(stored: np.ndarray) -> Tensor:
    """Stored uint16 values as float32 intensities in [0, 1]."""
    return torch.from_numpy(stored.astype(np.float32) / 65535.0)


def to_network(intensity: Tensor) -> Tensor:
    """Intensities (n, rows, columns) in [0, 1] as input (n, 1, rows, columns) in [-1, 1]."""
    return intensity.unsqueeze(1) * 2.0 - 1.0


def from_network(output: Tensor) -> Tensor:
    """Network output (n, 1, rows, columns) in [-1, 1] as intensities (n, rows, columns)."""
    return (output.float().squeeze(1) + 1.0) / 2.0


class TrainingSlices:
    """The training slices of one site, or of several sites pooled for the centralised arm."""

    def __init__(self, splits: Sequence[PreparedSplit]) -> None:
        self._splits = tuple(splits)
        self._starts = np.cumsum([0, *(len(split.source) for split in self._splits)])

    def __len__(self) -> int:
        """Number of slices."""
        return int(self._starts[-1])

    def batch(self, indices: np.ndarray) -> Batch:
        """Source and target slices (n, 1, rows, columns) in [-1, 1], in the order of indices."""
        owners = np.searchsorted(self._starts, indices, side="right") - 1
        pairs = [
            (self._splits[owner], index - self._starts[owner])
            for owner, index in zip(owners, indices, strict=True)
        ]
        source = np.stack([split.source[index] for split, index in pairs])
        target = np.stack([split.target[index] for split, index in pairs])
        return {
            "source": to_network(to_intensity(source)),
            "target": to_network(to_intensity(target)),
        }


@dataclass(frozen=True)
class SliceOrder:
    """Which slices each step uses: epoch after epoch of seeded permutations, cut into rounds.

    The order depends on the seed, the arm's name and the step alone. A round can therefore be
    repeated or resumed in another process, and epochs run on over the ends of rounds.
    """

    seed: int
    arm: str
    slices: int
    batch_size: int

    def indices(self, first_step: int, steps: int) -> np.ndarray:
        """Indices of shape (steps, batch_size) for steps ``first_step`` and following."""
        positions = np.arange(first_step * self.batch_size, (first_step + steps) * self.batch_size)
        epochs = positions // self.slices
        orders = {int(epoch): self._epoch_order(int(epoch)) for epoch in np.unique(epochs)}
        chosen = [
            orders[int(epoch)][position % self.slices]
            for epoch, position in zip(epochs, positions, strict=True)
        ]
        return np.asarray(chosen, dtype=np.int64).reshape(steps, self.batch_size)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        seed = derive_seed(self.seed, "slice order", self.arm, epoch)
        return np.random.default_rng(seed).permutation(self.slices)


class RoundBatches(IterableDataset[Batch]):
    """The batches of one round, ready for a DataLoader with ``batch_size=None``."""

    def __init__(self, slices: TrainingSlices, indices: np.ndarray) -> None:
        super().__init__()
        self._slices = slices
        self._indices = indices

    def __iter__(self) -> Iterator[Batch]:
        """Batch after batch, in the given order."""
        for step in self._indices:
            yield self._slices.batch(step)
