"""The learner: from a state, train some steps, return a record. No federated framework in sight.

Federated clients, local-only runs and the centralised run use it unchanged; they differ in data
and in where the next state comes from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_modules.configuration import ExperimentConfig
from lightning_modules.hardware import Hardware
from lightning_modules.local_state import LocalState, LocalStateStore
from lightning_modules.pix2pix_module import Pix2PixModule
from lightning_modules.quiet_trainer import quiet_trainer
from lightning_modules.restored_optimizers import RestoredOptimizers
from lightning_modules.round_history import RoundHistory
from lightning_modules.seeding import derive_seed
from lightning_modules.sharing_scope import SharingScope
from lightning_modules.strategies.proximal import ProximalTerm
from lightning_modules.training_slices import RoundBatches, SliceOrder, TrainingSlices
from partitions.errors import ConfigError, DataError

State = dict[str, Tensor]
Report = Callable[[str, float, int], None]


@dataclass(frozen=True)
class RoundResult:
    """What one round of local training gives back.

    Attributes:
        state: the shared part of the state_dict, on the CPU.
        samples: training slices of this learner; its weight in an average.
        metrics: mean of each training loss over the round, and strategy diagnostics.
        steps: optimizer steps of each network.
        seconds: time spent in training steps.
    """

    state: State
    samples: int
    metrics: dict[str, float]
    steps: int
    seconds: float


class Learner:
    """Trains pix2pix on the slices of one site.

    Args:
        experiment: the experiment.
        arm: name of this learner, e.g. the site; seeds its slice order and dropout.
        slices: its training slices.
        hardware: device, precision and threads.
        store: where state is kept between rounds; needed when something is kept or not shared.
        steps: optimizer steps per round; by default the experiment's. The centralised arm takes
            as many as all sites together.
    """

    def __init__(
        self,
        experiment: ExperimentConfig,
        arm: str,
        slices: TrainingSlices,
        hardware: Hardware,
        store: LocalStateStore,
        steps: int | None = None,
    ) -> None:
        self._experiment = experiment
        self._arm = arm
        self._slices = slices
        self._hardware = hardware
        self._store = store
        self._steps = steps or experiment.training.steps
        self._scope = SharingScope.named(experiment.sharing)
        self._order = SliceOrder(experiment.seed, arm, len(slices), experiment.training.batch_size)
        self._module = self._fresh_module()

    def initial_state(self) -> State:
        """The shared part of the seeded initial networks: where every arm starts."""
        return self._scope.select(_on_cpu(self._fresh_module().state_dict()))

    def train(
        self, state: Mapping[str, Tensor], round_number: int, report: Report | None = None
    ) -> RoundResult:
        """Train one round from a received state.

        The result depends on the state, the kept local state, the seed and the round's number
        only; not on what this process did before.

        Args:
            state: shared keys of the state_dict.
            round_number: counted from 0.
            report: called with (tag, value, step) as training goes on.

        Raises:
            ConfigError: keys or shapes of ``state`` are not the shared ones of this model.
            DataError: the state kept from the last round is damaged, or there is no slice.
        """
        if not len(self._slices):
            raise DataError(f"{self._arm}: no training slices; give this site training subjects")
        kept = self._store.load(round_number - 1) or {}
        self._load(state, kept)
        proximal = self._proximal_term()
        history = RoundHistory(first_step=round_number * self._steps, report=report)
        callbacks = [RestoredOptimizers(self._kept_optimizers(kept)), history]
        trainer = quiet_trainer(self._hardware, [*callbacks, *([proximal] if proximal else [])])
        torch.manual_seed(derive_seed(self._experiment.seed, "noise", self._arm, round_number))
        started = time.perf_counter()
        trainer.fit(self._module, train_dataloaders=self._batches(round_number))
        seconds = time.perf_counter() - started
        self._keep(round_number, trainer)
        return RoundResult(
            state=self._scope.select(_on_cpu(self._module.state_dict())),
            samples=len(self._slices),
            metrics={**history.means(), **(proximal.ratios() if proximal else {})},
            steps=self._steps,
            seconds=seconds,
        )

    def _batches(self, round_number: int) -> DataLoader[dict[str, Tensor]]:
        indices = self._order.indices(round_number * self._steps, self._steps)
        return DataLoader(RoundBatches(self._slices, indices), batch_size=None)

    def _load(self, state: Mapping[str, Tensor], kept: LocalState) -> None:
        own = self._module.state_dict()
        self._scope.check(state, own)
        for key, value in state.items():
            if value.shape != own[key].shape:
                raise ConfigError(
                    f"received model has '{key}' of shape {list(value.shape)}, here it is "
                    f"{list(own[key].shape)}; does the job name another model?"
                )
        local = kept.get("networks") or self._fresh_local_networks()
        self._module.load_state_dict({**local, **state})

    def _kept_optimizers(self, kept: LocalState) -> list[dict[str, Any]] | None:
        # A run with other settings may have left optimizers in the same folder.
        keep = self._experiment.training.optimizer_state == "keep"
        return kept.get("optimizers") if keep else None

    def _fresh_local_networks(self) -> State:
        return self._scope.remainder(self._fresh_module().state_dict())

    def _fresh_module(self) -> Pix2PixModule:
        experiment = self._experiment
        return Pix2PixModule(experiment.model, experiment.training, experiment.seed)

    def _keep(self, round_number: int, trainer: pl.Trainer) -> None:
        state: LocalState = {}
        if self._experiment.training.optimizer_state == "keep":
            state["optimizers"] = [optimizer.state_dict() for optimizer in trainer.optimizers]
        networks = self._scope.remainder(_on_cpu(self._module.state_dict()))
        if networks:
            state["networks"] = networks
        if state:
            self._store.save(round_number, state)

    def _proximal_term(self) -> ProximalTerm | None:
        strategy = self._experiment.strategy
        if strategy.name != "fedprox":
            return None
        return ProximalTerm(
            {"generator": strategy.mu_generator, "discriminator": strategy.mu_discriminator}
        )


def _on_cpu(state: Mapping[str, Tensor]) -> State:
    return {key: value.detach().cpu().clone() for key, value in state.items()}
