"""The batches of a learner: pairs in one seeded order, or each domain in an order of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import IterableDataset

from lightning_modules.data.augmentation import AUGMENTATION, Augmenter, step_randoms
from lightning_modules.data.contrast_draws import ContrastDraws, swapped
from lightning_modules.data.contrast_dropout import DROPOUT, emptied, kept_contrasts
from lightning_modules.data.slices import Batch, TrainingSlices
from lightning_modules.model_networks import ModelNetworks, described
from lightning_modules.seeding import derive_seed
from partitions.preparation.configuration import DOMAINS


class BatchSource:
    """Where a learner's batches come from; any round can be drawn without those before it.

    A paired model draws subjects' pairs. An unpaired one draws source and target independently,
    also where a site holds pairs: otherwise it would be shown more than the method may know. A
    domain that a site does not have is absent from its batches.

    Args:
        model: the model, or its name.
        slices: the training slices.
        seed: the experiment's seed.
        arm: name of the learner.
        batch_size: slices per step, of each domain.
        augmenter: changes the slices of every step; without it they stay as they are.
        contrasts: draws between which contrasts a slice is translated; without it from its site's
            source to its target, and batches hold no codes.
        contrast_dropout: how often contrasts of a source of several are taken away, see
            ``kept_contrasts``.
    """

    def __init__(
        self,
        model: ModelNetworks | str,
        slices: TrainingSlices,
        seed: int,
        arm: str,
        batch_size: int,
        augmenter: Augmenter | None = None,
        contrasts: ContrastDraws | None = None,
        contrast_dropout: float = 0.0,
    ) -> None:
        paired = described(model).paired
        groups = (DOMAINS,) if paired else tuple((domain,) for domain in DOMAINS)
        drawn = [slices.of(domains) for domains in groups]
        self._drawn = [found for found in drawn if len(found)]
        self._orders = [
            SliceOrder(seed, arm, len(found), batch_size, None if paired else found.domains[0])
            for found in self._drawn
        ]
        self._seed = seed
        self._arm = arm
        self._augmenter = augmenter
        self._contrasts = contrasts
        self._dropout = contrast_dropout

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that every batch holds."""
        return tuple(domain for found in self._drawn for domain in found.domains)

    @property
    def samples(self) -> int:
        """Number of training slices: of pairs, or the sum over domains drawn independently."""
        return sum(len(found) for found in self._drawn)

    def batches(self, first_step: int, steps: int) -> RoundBatches:
        """The batches of steps ``first_step`` and following."""
        indices = [order.indices(first_step, steps) for order in self._orders]
        return RoundBatches(self._drawn, indices, first_step, self._batch)

    def _batch(self, slices: TrainingSlices, chosen: np.ndarray, step: int) -> Batch:
        """What is drawn together in a step of this arm, changed by the step's draws."""

        def randoms(purpose: str) -> list[np.random.Generator]:
            names, count = slices.domains, len(chosen)
            return step_randoms(self._seed, self._arm, names, step, count, purpose)

        batch = slices.batch(chosen, randoms("patches") if slices.draws_patches else ())
        codes: Batch = {}
        if self._contrasts is not None:
            pairs = slices.pairs(chosen)
            codes = self._contrasts.codes(pairs, step)
            batch = swapped(batch, self._contrasts.turned(pairs, step))
        if self._augmenter is not None:
            batch = self._augmenter(batch, randoms(AUGMENTATION))
        if slices.shows_contrasts:  # last, as noise would tell an empty contrast from a missing one
            kept = kept_contrasts(slices.present(chosen), self._dropout, randoms(DROPOUT))
            batch = emptied(batch, kept)
        return batch | codes


class RoundBatches(IterableDataset[Batch]):
    """The batches of one round, ready for a DataLoader with ``batch_size=None``.

    Args:
        drawn: slices that are drawn independently of each other.
        indices: for each of them which slices every step takes, (steps, batch_size).
        first_step: the number of the first step.
        batch: what a step takes of slices that are drawn together, given which of them and the
            number of the step.
    """

    def __init__(
        self,
        drawn: Sequence[TrainingSlices],
        indices: Sequence[np.ndarray],
        first_step: int,
        batch: Callable[[TrainingSlices, np.ndarray, int], Batch],
    ) -> None:
        super().__init__()
        self._drawn = drawn
        self._indices = indices
        self._first_step = first_step
        self._batch = batch

    def __iter__(self) -> Iterator[Batch]:
        """Batch after batch, in the given order."""
        for number, step in enumerate(zip(*self._indices, strict=True), self._first_step):
            batch: Batch = {}
            for slices, chosen in zip(self._drawn, step, strict=True):
                batch |= self._batch(slices, chosen, number)
            yield batch


@dataclass(frozen=True)
class SliceOrder:
    """Which slices each step uses: epoch after epoch of seeded permutations, cut into rounds.

    The order depends on the seed, the arm's name, the domain and the step alone. A round can
    therefore be repeated or resumed in another process, and epochs run on over the ends of rounds.

    Attributes:
        seed: the experiment's seed.
        arm: name of the learner.
        slices: how many there are to draw from.
        batch_size: slices per step.
        domain: the domain that is drawn by itself; None for pairs.
    """

    seed: int
    arm: str
    slices: int
    batch_size: int
    domain: str | None = None

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
        which = (self.arm,) if self.domain is None else (self.arm, self.domain)
        seed = derive_seed(self.seed, "slice order", *which, epoch)
        return np.random.default_rng(seed).permutation(self.slices)
