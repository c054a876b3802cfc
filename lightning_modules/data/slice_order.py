"""The seeded order in which slices are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_modules.seeding import derive_seed


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
