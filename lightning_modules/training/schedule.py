"""Learning rates over a run: a function of round and step alone, so that no state is kept.

A site's process may die between rounds, and a site may miss some: the rate of a step is the same as
if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl

from lightning_modules.configuration import TrainingConfig
from lightning_modules.modules.own_module import RATE


def _linear(progress: float) -> float:
    """Full for the first half, then in a straight line to zero.

    The schedule of pix2pix and CycleGAN (Zhu et al., ICCV 2017, doi:10.1109/ICCV.2017.244, section
    4: 100 epochs with the full rate and 100 that decay).
    """
    return min(1.0, 2 * (1 - progress))


def _cosine(progress: float) -> float:
    """Half a cosine from one to zero (Loshchilov and Hutter, ICLR 2017, arXiv:1608.03983)."""
    return (1 + math.cos(math.pi * progress)) / 2


_SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": _linear,
    "cosine": _cosine,
}


def rate_factor(training: TrainingConfig, round_number: int, step: int, steps: int) -> float:
    """What the learning rates are multiplied by at one step.

    Args:
        training: the schedule, the number of rounds and the warm-up.
        round_number: counted from 0. Rounds beyond the run's last one keep the last one's end.
        step: within the round, counted from 0.
        steps: of a round.

    Returns:
        A number in [0, 1]: the schedule at this step of the run, times the rise of the round.
    """
    progress = min(1.0, (round_number * steps + step) / (training.rounds * steps))
    rising = training.warm_up * steps
    return _SCHEDULES[training.schedule](progress) * min(1.0, (step + 1) / max(rising, 1.0))


class ScheduledRates(pl.Callback):
    """Sets the learning rate of every optimizer before each step.

    Kept optimizers come with the rate of their last step, so that each rate is computed from the
    configured one.

    Args:
        training: learning rates, schedule and warm-up.
        roles: network name to role, which gives the learning rate.
        round_number: counted from 0.
        steps: of a round.
    """

    def __init__(
        self, training: TrainingConfig, roles: Mapping[str, str], round_number: int, steps: int
    ) -> None:
        self._training = training
        self._roles = roles
        self._round = round_number
        self._steps = steps

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rates of this step."""
        factor = rate_factor(self._training, self._round, batch_idx, self._steps)
        rates = self._training.rates()
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                own = group.get(RATE)  # of a module of a lab's own
                rate = rates[self._roles[group["name"]]] if own is None else own
                group["lr"] = factor * rate
