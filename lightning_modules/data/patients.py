"""Patients drawn at random: the batches of patient-level differential privacy.

The smaller epsilon of drawn patients, against that of patients who all take part, rests on nobody
knowing who was drawn. Draws therefore come from the operating system's entropy and never from the
experiment's seed, which every participant of a job knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import IterableDataset

from fedi2i.digest import digest
from lightning_modules.data.augmentation import Augmenter
from lightning_modules.data.slices import Batch, TrainingSlices

Draws = dict[str, list[Batch]]
"""Network to a batch per patient who was drawn for its step; there may be none."""

Uniform = Callable[[int], np.ndarray]
"""Draws a number of independent values between 0 and 1."""


class PatientDraws(IterableDataset[Draws]):
    """The patients of a round's steps, ready for a DataLoader with ``batch_size=None``.

    For every step of every network each patient is drawn independently of the others with the same
    probability (Poisson sampling, which is what the accountant counts; a shuffled list cut into
    batches is not). Every network draws anew: with one draw for both, a patient who is drawn would
    be seen twice, and epsilon would be that of less noise.

    Args:
        slices: the training slices, with source and target.
        rate: the probability, above 0 and at most 1.
        most_slices: slices of a drawn patient that take part, fewer where there are no more; drawn
            without replacement. Of volumes so many patches.
        networks: who draws, in the order of their steps.
        steps: how many steps.
        uniform: draws patients and slices.
        augmenter: changes the slices; without it they stay as they are. Its draws come from the
            system's entropy, too: drawn by the seed, they would hang on a patient's place among
            those who are drawn, so that a patient who is added would move what the others give,
            and the sum of gradients by more than the clipping norm that the accountant counts.
    """

    def __init__(
        self,
        slices: TrainingSlices,
        rate: float,
        most_slices: int,
        networks: Sequence[str],
        steps: int,
        uniform: Uniform,
        augmenter: Augmenter | None = None,
    ) -> None:
        super().__init__()
        self._slices = slices
        self._patients = slices.patients()
        self._rate = rate
        self._most_slices = most_slices
        self._networks = tuple(networks)
        self._steps = steps
        self._uniform = uniform
        self._augmenter = augmenter

    def __iter__(self) -> Iterator[Draws]:
        """Step after step."""
        for _ in range(self._steps):
            yield {network: list(map(self._batch_of, self.draw())) for network in self._networks}

    def draw(self) -> list[np.ndarray]:
        """Indices of slices, an array for every patient who is drawn."""
        drawn = self._uniform(len(self._patients)) < self._rate
        return [
            self._some(patient)
            for patient, is_drawn in zip(self._patients, drawn, strict=True)
            if is_drawn
        ]

    def _batch_of(self, chosen: np.ndarray) -> Batch:
        batch = self._slices.batch(chosen, _system_randoms(chosen))
        return batch if self._augmenter is None else self._augmenter(batch, _system_randoms(chosen))

    def _some(self, patient: np.ndarray) -> np.ndarray:
        order = np.argsort(self._uniform(len(patient)))
        return patient[order[: self._most_slices]]


def _system_randoms(chosen: np.ndarray) -> list[np.random.Generator]:
    """A random state for each, from the system's entropy."""
    return [np.random.default_rng() for _ in chosen]


def patients_digest(slices: TrainingSlices) -> str:
    """Tells training data apart by their content, whatever folders and patients are called."""
    return digest(sorted(_digest_of(slices, patient) for patient in slices.patients()))


def _digest_of(slices: TrainingSlices, patient: np.ndarray) -> str:
    content = hashlib.sha256()
    for index in patient:
        for domain, array in sorted(slices.stored(np.asarray([index])).items()):
            content.update(f"{domain}{array.dtype}{array.shape}".encode())
            content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()
