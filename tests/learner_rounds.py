"""A learner's rounds without a federation: each begins where the one before has ended."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.training.learner import Learner


def after_rounds(learner: Learner, state: dict[str, Tensor], *numbers: int) -> dict[str, Tensor]:
    """The state_dict after rounds of the given numbers."""
    for number in numbers:
        state = learner.train(state, number).state
    return state
