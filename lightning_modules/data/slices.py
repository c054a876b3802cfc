"""Training data of one arm: prepared slices, mapped into memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from partitions.preparation import PreparedSplit
from partitions.preparation.configuration import DOMAINS

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
    """The training slices of one site, or of several sites pooled for the centralised arm.

    Args:
        splits: prepared slices, site after site.
        domains: ``source``, ``target`` or both. Subjects that lack one of these are passed over, as
            the arrays hold nothing but zeros in its place.
    """

    def __init__(self, splits: Sequence[PreparedSplit], domains: tuple[str, ...] = DOMAINS) -> None:
        self._splits = tuple(splits)
        self.domains = domains
        places = [split.slices_with(domains) for split in self._splits]
        self._owners = np.repeat(np.arange(len(places)), [len(place) for place in places])
        self._places = np.concatenate([np.zeros(0, dtype=np.intp), *places])

    def __len__(self) -> int:
        """Number of slices, each in all the domains."""
        return len(self._places)

    def of(self, domains: tuple[str, ...]) -> TrainingSlices:
        """The slices of the same sites in other domains."""
        return TrainingSlices(self._splits, domains)

    def batch(self, indices: np.ndarray) -> Batch:
        """Slices (n, 1, rows, columns) in [-1, 1] by domain, in the order of indices."""
        stored = self.stored(indices)
        return {domain: to_network(to_intensity(array)) for domain, array in stored.items()}

    def stored(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The same slices as the cache holds them, uint16 (n, rows, columns)."""
        chosen = [(self._splits[self._owners[i]], self._places[i]) for i in indices]
        return {
            domain: np.stack([getattr(split, domain)[place] for split, place in chosen])
            for domain in self.domains
        }

    def patients(self) -> list[np.ndarray]:
        """The indices of each patient's slices; one person may have several scans at a site.

        Patients of pooled sites are told apart by their site: sites number theirs by themselves.
        """
        held: dict[tuple[int, str], list[np.ndarray]] = {}
        for owner, split in enumerate(self._splits):
            mine = self._owners == owner
            for subject in split.subjects:
                inside = (self._places >= subject.start) & (self._places < subject.stop)
                found = np.flatnonzero(mine & inside)
                if len(found):
                    held.setdefault((owner, subject.patient), []).append(found)
        return [np.concatenate(parts) for parts in held.values()]
