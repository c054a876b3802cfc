"""The losses of one round."""

from __future__ import annotations

from typing import Any

import torch

from lightning_modules.training.callbacks import RoundHistory

NOTHING: Any = None


def _run(history: RoundHistory, steps: int) -> None:
    for step in range(steps):
        losses = {"train/l1": torch.tensor(float(step + 1), requires_grad=True)}
        history.on_train_batch_end(NOTHING, NOTHING, losses, NOTHING, step)


def test_the_mean_is_over_all_steps_of_the_round() -> None:
    history = RoundHistory(first_step=0, report=None)
    _run(history, 25)
    assert history.means() == {"train/l1": 13.0}


def test_every_ten_steps_their_own_mean_is_reported_at_the_global_step() -> None:
    reports: list[tuple[str, float, int]] = []
    history = RoundHistory(100, lambda tag, value, step: reports.append((tag, value, step)))
    _run(history, 25)
    assert reports == [("train/l1", 5.5, 110), ("train/l1", 15.5, 120)]
