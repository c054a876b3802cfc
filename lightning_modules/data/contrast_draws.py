"""Between which contrasts each slice of a batch is translated, drawn by the experiment's seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.seeding import derive_seed

SOURCE_CODE, TARGET_CODE, THIRD_CODE = "source_code", "target_code", "third_code"
"""Keys of a batch: numbers of contrasts, (n,)."""


@dataclass(frozen=True)
class ContrastDraws:
    """The draws of one learner; those of a step depend on nothing but seed, learner and step.

    A site's two contrasts are translated in both directions. With a third one, that the slice was
    not acquired in, the pseudo-source term goes over it.

    Attributes:
        seed: the experiment's seed.
        arm: name of the learner.
        contrasts: names of all contrasts; the place of a name is its number.
        first_third: the first step whose batch has third contrasts.
    """

    seed: int
    arm: str
    contrasts: tuple[str, ...]
    first_third: int

    def turned(self, pairs: Sequence[tuple[str, str]], step: int) -> NDArray[np.bool_]:
        """Which slices of a step are translated from their pair's target to its source."""
        return self._random("direction", step).random(len(pairs)) < 0.5

    def codes(self, pairs: Sequence[tuple[str, str]], step: int) -> dict[str, Tensor]:
        """The numbers of the contrasts of every slice.

        Args:
            pairs: source and target of each slice, before any is turned.
            step: number of the step.
        """
        numbers = np.array([[self.contrasts.index(name) for name in pair] for pair in pairs])
        numbers = np.where(self.turned(pairs, step)[:, None], numbers[:, ::-1], numbers)
        found = {SOURCE_CODE: numbers[:, 0], TARGET_CODE: numbers[:, 1]}
        others = len(self.contrasts) - 2
        if others and step >= self.first_third:
            chosen = self._random("third contrast", step).integers(others, size=len(pairs))
            for taken in np.sort(numbers, axis=1).T:  # count on, past the two of the pair
                chosen = chosen + (chosen >= taken)
            found[THIRD_CODE] = chosen
        return {key: torch.from_numpy(value.astype(np.int64)) for key, value in found.items()}

    def _random(self, what: str, step: int) -> np.random.Generator:
        return np.random.default_rng(derive_seed(self.seed, "contrasts", what, self.arm, step))


def swapped(batch: dict[str, Tensor], turned: NDArray[np.bool_]) -> dict[str, Tensor]:
    """Source and target of a batch, the two exchanged where a slice is turned."""
    where = torch.from_numpy(turned)[:, None, None, None]
    source, target = batch["source"], batch["target"]
    return {
        "source": torch.where(where, target, source),
        "target": torch.where(where, source, target),
    }
