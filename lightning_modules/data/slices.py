"""Training data of one arm: prepared slices, mapped into memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.data.patches import PatchPlaces
from lightning_modules.data.source_view import ONE_SLICE, SourceView
from partitions.preparation import PreparedSplit, PreparedSubject
from partitions.preparation.configuration import DOMAINS

Batch = dict[str, Tensor]
Randoms = Sequence[np.random.Generator]
"""A random state for every place in a batch."""


def to_intensity(stored: np.ndarray) -> Tensor:
    """Stored uint16 values as float32 intensities in [0, 1]."""
    return torch.from_numpy(stored.astype(np.float32) / 65535.0)


def to_network(intensity: Tensor) -> Tensor:
    """Intensities in [0, 1] as a network's input in [-1, 1].

    Args:
        intensity: (n, rows, columns), or (n, channels, rows, columns) of several slices each, or
            patches (n, 1, slices, rows, columns).

    Returns:
        (n, 1, rows, columns); what has channels already keeps its shape.
    """
    with_channels = intensity.unsqueeze(1) if intensity.ndim == 3 else intensity
    return with_channels * 2.0 - 1.0


def from_network(output: Tensor) -> Tensor:
    """Network output (n, 1, ...) in [-1, 1] as intensities (n, ...)."""
    return (output.float().squeeze(1) + 1.0) / 2.0


class TrainingSlices:
    """The training slices of one site, or of several sites pooled for the centralised arm.

    Args:
        splits: prepared slices, site after site.
        domains: ``source``, ``target`` or both. Subjects that lack one of these are passed over, as
            the arrays hold nothing but zeros in its place.
        view: which slices of the source go into a batch for each that is drawn, or what patches
            are cut out around it.

    Raises:
        DataError: the patch is larger than a subject's volume.
    """

    def __init__(
        self,
        splits: Sequence[PreparedSplit],
        domains: tuple[str, ...] = DOMAINS,
        view: SourceView = ONE_SLICE,
    ) -> None:
        self._splits = tuple(splits)
        self.domains = domains
        self._view = view
        several = view.contrasts > 1
        self._owned = [_subject_of_slices(split) for split in self._splits] if several else []
        self._around = [_around(split, view) for split in self._splits] if view.neighbours else []
        places = [split.slices_with(domains) for split in self._splits]
        self._patches = [PatchPlaces(one, view) for one in self._splits] if view.patch else []
        if self._patches:
            both = zip(self._patches, places, strict=True)
            places = [patches.long_enough(found) for patches, found in both]
        self._owners = np.repeat(np.arange(len(places)), [len(place) for place in places])
        self._places = np.concatenate([np.zeros(0, dtype=np.intp), *places])

    def __len__(self) -> int:
        """Number of slices, each in all the domains."""
        return len(self._places)

    def of(self, domains: tuple[str, ...]) -> TrainingSlices:
        """The slices of the same sites in other domains."""
        return TrainingSlices(self._splits, domains, self._view)

    def seen_as(self, view: SourceView) -> TrainingSlices:
        """The same slices, with other neighbours or contrasts of the source beside each."""
        return TrainingSlices(self._splits, self.domains, view)

    @property
    def shows_contrasts(self) -> bool:
        """Whether the source has several contrasts, of which a subject may lack some."""
        return self._view.contrasts > 1

    def present(self, indices: np.ndarray) -> NDArray[np.bool_]:
        """Which contrasts of the source every slice has, (n, contrasts)."""
        found = [
            self._splits[owner].present(self._subject(owner, place))
            for owner, place in zip(self._owners[indices], self._places[indices], strict=True)
        ]
        return np.stack(found)

    @property
    def draws_patches(self) -> bool:
        """Whether a batch needs random states, as it holds patches."""
        return bool(self._patches)

    def batch(self, indices: np.ndarray, randoms: Randoms = ()) -> Batch:
        """Slices in [-1, 1] by domain, in the order of indices, or a patch around each of them.

        Shapes: source (n, channels, rows, columns), see ``SourceView``; target (n, 1, rows,
        columns). Patches: both (n, 1, slices, rows, columns).

        Args:
            indices: which slices.
            randoms: where patches are drawn, one random state for each; slices need none.
        """
        if self._patches:
            return self._batch_of_patches(indices, randoms)
        return {
            domain: to_network(to_intensity(self._read(domain, indices, domain == "source")))
            for domain in self.domains
        }

    def stored(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The slices alone, as the cache holds them, uint16 (n, rows, columns)."""
        return {domain: self._read(domain, indices) for domain in self.domains}

    def pairs(self, indices: np.ndarray) -> list[tuple[str, str]]:
        """The sequences that source and target of each slice are."""
        return [self._splits[owner].pair for owner in self._owners[indices]]

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

    def _batch_of_patches(self, indices: np.ndarray, randoms: Randoms) -> Batch:
        owners, places = self._owners[indices], self._places[indices]
        drawn = [
            (self._splits[owner], self._patches[owner].draw(int(place), random))
            for owner, place, random in zip(owners, places, randoms, strict=True)
        ]
        stored = {
            domain: np.stack([getattr(split, domain)[block] for split, block in drawn])
            for domain in self.domains
        }
        return {name: to_network(to_intensity(array[:, None])) for name, array in stored.items()}

    def _read(
        self, domain: str, indices: np.ndarray, with_neighbours: bool = False
    ) -> NDArray[np.uint16]:
        """Slices (n, rows, columns), or (n, channels, rows, columns) of those that have others."""
        found = []
        for owner, place in zip(self._owners[indices], self._places[indices], strict=True):
            split = self._splits[owner]
            if with_neighbours and self.shows_contrasts:
                found.append(split.contrasts_at(int(place), self._subject(owner, place)))
                continue
            beside = with_neighbours and self._around
            where = self._around[owner][place] if beside else place
            found.append(getattr(split, domain)[where])
        return np.stack(found)

    def _subject(self, owner: int, place: int) -> PreparedSubject:
        return self._splits[owner].subjects[int(self._owned[owner][place])]


def _subject_of_slices(split: PreparedSplit) -> NDArray[np.intp]:
    """For every slice of a split the number of its subject."""
    lengths = [subject.stop - subject.start for subject in split.subjects]
    return np.repeat(np.arange(len(lengths)), lengths)


def _around(split: PreparedSplit, view: SourceView) -> NDArray[np.intp]:
    """For every slice of a split the places of those it is shown with, all of one subject."""
    found = np.zeros((len(split.source), view.channels), dtype=np.intp)
    for subject in split.subjects:
        found[subject.start : subject.stop] = subject.start + view.around(subject.heights)
    return found
