"""The learner: from a state, train some steps, return a record. No federated framework in sight.

Federated clients, local-only runs and the centralised run use it unchanged; they differ in data
and in where the next state comes from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fedi2i.errors import ConfigError, DataError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.augmentation import augmenter_of
from lightning_modules.data.batches import BatchSource
from lightning_modules.data.contrast_draws import ContrastDraws
from lightning_modules.data.patients import Draws, PatientDraws
from lightning_modules.data.slices import Batch, TrainingSlices
from lightning_modules.model_networks import trained_networks
from lightning_modules.modules import build_module
from lightning_modules.networks.building import build_networks
from lightning_modules.networks.own_check import check_own_networks
from lightning_modules.privacy.patient_settings import PatientNoise, check_experiment
from lightning_modules.privacy.update_noise import system_uniform
from lightning_modules.seeding import derive_seed
from lightning_modules.sharing.local_parts import sharing_scope
from lightning_modules.sharing.scope import SharingScope
from lightning_modules.strategies.interface import GradientTerm, TermInputs
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.local_state import LocalStateStore
from lightning_modules.training.memory_check import check_memory
from lightning_modules.training.round_start import Kept, RoundStart
from partitions.preparation.configuration import DOMAINS

if TYPE_CHECKING:
    import pytorch_lightning as pl

State = dict[str, Tensor]
Report = Callable[[str, float, int], None]


@dataclass(frozen=True)
class RoundResult:
    """What one round of local training gives back.

    Attributes:
        state: the shared part of the state_dict, on the CPU, of the networks that could be trained
            (see ``trained_networks``).
        samples: training slices of this learner, its weight in an average: pairs for pix2pix, the
            sum over both domains for CycleGAN. With patient-level differential privacy the number
            that its settings state.
        metrics: mean of each training loss over the round, and strategy diagnostics.
        steps: optimizer steps of each network.
        seconds: time spent in training steps.
        extras: what the strategy sends besides the state, as ``kind/key``.
    """

    state: State
    samples: int
    metrics: dict[str, float]
    steps: int
    seconds: float
    extras: State = field(default_factory=dict)


@dataclass(frozen=True)
class _Fit:
    """One pass of training over the batches of a round."""

    metrics: dict[str, float]
    optimizers: list[dict[str, Any]]
    seconds: float

    def ratios(self) -> dict[str, float]:
        """The metrics that say how far the strategy acted."""
        return {k: value for k, value in self.metrics.items() if k.startswith("strategy/")}


class Learner:
    """Trains a translation GAN on the slices of one site.

    Lightning and the module are loaded at the first training: a process that only validates does
    without them, and their import takes longer than a small site's validation.

    Args:
        experiment: the experiment.
        arm: name of this learner, e.g. the site; seeds its slice order and dropout.
        slices: its training slices.
        hardware: device, precision and threads.
        store: where state is kept between rounds; needed when something is kept or not shared.
        steps: optimizer steps per round; by default the experiment's. The centralised arm takes
            as many as all sites together.
        patient_noise: trains with patient-level differential privacy; whoever calls has written
            the round into the ledger before. Patients and noise come from the system's entropy, so
            that no two such trainings are alike.
        measures_only: whether it is to train nothing for now; the memory of a training step is then
            asked about when it does.

    Attributes:
        trained: names of the networks that its slices can train.

    Raises:
        ConfigError: ``patient_noise`` does not cover this experiment, a training step does not fit
            into memory, or a network of a lab's own does not offer what it asks for.
    """

    def __init__(
        self,
        experiment: ExperimentConfig,
        arm: str,
        slices: TrainingSlices,
        hardware: Hardware,
        store: LocalStateStore,
        steps: int | None = None,
        patient_noise: PatientNoise | None = None,
        measures_only: bool = False,
    ) -> None:
        if patient_noise is not None:
            check_experiment(experiment, arm)
        if not measures_only:
            check_memory(experiment, hardware, patient_noise.slices if patient_noise else None)
        check_own_networks(experiment)
        self._asked_memory = not measures_only
        self._experiment = experiment
        self._strategy = experiment.strategy
        self._site_rule = experiment.strategy.record.site
        self._networks = experiment.model.described
        self._arm = arm
        self._slices = slices = slices.seen_as(experiment.model.view)
        self._patient_noise = patient_noise
        self._steps = steps or experiment.training.steps
        self._augmenter = augmenter_of(experiment.training, experiment.data.preparation)
        self._source = BatchSource(
            experiment.model.described,
            slices,
            experiment.seed,
            arm,
            experiment.training.batch_size,
            self._augmenter,
            self._contrast_draws(),
            experiment.model.contrast_dropout,
        )
        self.trained = trained_networks(experiment.model.described, self._source.domains)
        self._hardware = hardware
        self._store = store
        self._built = build_networks(experiment.model, experiment.seed)
        self._scope = sharing_scope(experiment, self._built)
        self._starts = RoundStart(experiment, arm, self._built, self._scope, self._fresh_state)

    def initial_state(self) -> State:
        """The shared part of the seeded initial networks: where every arm starts."""
        return self._scope.select(self._fresh_state(self._experiment.seed))

    def complete(
        self, state: Mapping[str, Tensor], round_number: int, accepted_round: int | None = None
    ) -> State:
        """A received state together with what this site keeps to itself: a whole model.

        Args:
            state: shared keys of the state_dict.
            round_number: the round that starts from the state.
            accepted_round: see ``train``.

        Raises:
            ConfigError: keys or shapes of ``state`` are not the shared ones of this model.
        """
        self._check(state)
        return self._starts.full_state(state, self._kept(round_number, accepted_round))

    def personal(self, round_number: int, accepted_round: int | None = None) -> State | None:
        """The site's own model beside the global one, as the last round left it; or None."""
        kept = self._kept(round_number, accepted_round)
        personal: State | None = kept.state.get("personal")
        return personal

    def train(
        self,
        state: Mapping[str, Tensor],
        round_number: int,
        report: Report | None = None,
        extras: Mapping[str, Tensor] | None = None,
        accepted_round: int | None = None,
    ) -> RoundResult:
        """Train one round from a received state.

        The result depends on what was received, the kept local state, the seed and the round's
        number only; not on what this process did before.

        Args:
            state: shared keys of the state_dict.
            round_number: counted from 0.
            report: called with (tag, value, step) as training goes on.
            extras: arrays that the strategy sent with the state, as ``kind/key``.
            accepted_round: the last round of this learner that the server took, -1 for none: what
                was kept after later ones is not used. None where nobody says.

        Raises:
            ConfigError: keys or shapes of ``state`` are not the shared ones of this model.
            DataError: the state kept from the last round is damaged, or missing where the server
                counts on it; or there is no slice.
        """
        from lightning_modules.modules.optimization import frozen
        from lightning_modules.training.trainer import free_round_garbage

        if not self.trained:
            raise DataError(f"{self._arm}: no training slices; give this site training subjects")
        self._check(state)
        received = extras or {}
        kept = self._kept(round_number, accepted_round)
        self._check_memory(kept, accepted_round)
        self._renew_own_module()
        memory: State = kept.state.get("strategy", {})
        term = self._gradient_term(memory, received)
        self._module.load_state_dict(self._starts.weights(state, kept, round_number, received))
        optimizers = self._starts.optimizers(kept, received)
        with frozen(self._starts.frozen(round_number, self._module)):
            fit = self._fit(round_number, "noise", term, optimizers, report)
        trained = _on_cpu(self._module.state_dict())
        personal = self._train_personal(state, round_number, kept)
        self._keep(
            round_number,
            kept.round_number,
            optimizers=fit.optimizers,
            networks=self._scope.remainder(trained),
            strategy={**memory, **term.kept(trained)} if term else {},
            own=trained if self._site_rule.layer_stages else None,
            personal=personal and _on_cpu(self._module.state_dict()),
            personal_optimizers=personal and personal.optimizers,
        )
        free_round_garbage()
        return RoundResult(
            state=SharingScope(self.trained).select(self._scope.select(trained)),
            samples=self._patient_noise.patients if self._patient_noise else self._source.samples,
            metrics={**fit.metrics, **(personal.ratios() if personal else {})},
            steps=self._steps,
            seconds=fit.seconds + (personal.seconds if personal else 0.0),
            extras=term.extras() if term else {},
        )

    def _gradient_term(
        self, kept: Mapping[str, Tensor], extras: Mapping[str, Tensor]
    ) -> GradientTerm | None:
        make = self._site_rule.gradient_term
        settings, roles = self._strategy.settings, self._networks.roles
        return make(TermInputs(settings, kept, extras, roles)) if make else None

    def _fit(
        self,
        round_number: int,
        stream: str,
        term: GradientTerm | None,
        optimizers: list[dict[str, Any]] | None,
        report: Report | None,
    ) -> _Fit:
        """Train ``self._module`` on the round's batches."""
        from lightning_modules.training.callbacks import RestoredOptimizers, RoundHistory
        from lightning_modules.training.gradient_editor import GradientEditor
        from lightning_modules.training.schedule import ScheduledRates
        from lightning_modules.training.trainer import quiet_trainer

        training, roles = self._experiment.training, self._networks.roles
        history = RoundHistory(first_step=round_number * self._steps, report=report)
        keep = training.optimizer_state == "keep"
        editor = term and GradientEditor(term, roles, self._scope.covers)
        rates = ScheduledRates(training, roles, round_number, self._steps)
        callbacks: list[pl.Callback] = [
            RestoredOptimizers(optimizers if keep else None),
            rates,
            history,
        ]
        trainer = quiet_trainer(self._hardware, [*callbacks, *([editor] if editor else [])])
        torch.manual_seed(derive_seed(self._experiment.seed, stream, self._arm, round_number))
        started = time.perf_counter()
        trainer.fit(self._module, train_dataloaders=self._batches(round_number))
        fit = _Fit(
            metrics={**history.means(), **(editor.ratios() if editor else {})},
            optimizers=[o.state_dict() for o in trainer.optimizers] if keep else [],
            seconds=time.perf_counter() - started,
        )
        trainer.optimizers = []  # the module keeps its trainer, and that its moments, otherwise
        return fit

    def _batches(self, round_number: int) -> DataLoader[Batch] | DataLoader[Draws]:
        if self._patient_noise is not None:
            return DataLoader(self._patient_draws(self._patient_noise), batch_size=None)
        batches = self._source.batches(round_number * self._steps, self._steps)
        return DataLoader(batches, batch_size=None)

    def _contrast_draws(self) -> ContrastDraws | None:
        model, rounds = self._experiment.model, self._experiment.training.rounds
        if not model.contrasts:
            return None
        begins = round(model.pseudo_source_from * rounds * self._steps)
        return ContrastDraws(self._experiment.seed, self._arm, model.contrasts, begins)

    def _patient_draws(self, noise: PatientNoise) -> PatientDraws:
        slices, networks = self._slices.of(DOMAINS), self._networks.names
        return PatientDraws(
            slices,
            noise.sampling_rate,
            noise.slices,
            networks,
            self._steps,
            system_uniform(),
            self._augmenter,
        )

    def _check(self, state: Mapping[str, Tensor]) -> None:
        own = self._built.state_dict()
        self._scope.check(state, own)
        for key, value in state.items():
            if value.shape != own[key].shape:
                raise ConfigError(
                    f"received model has '{key}' of shape {list(value.shape)}, here it is "
                    f"{list(own[key].shape)}; does the job name another model?"
                )

    def _train_personal(
        self, state: Mapping[str, Tensor], round_number: int, kept: Kept
    ) -> _Fit | None:
        """The round of a site's own model beside the global one, where the strategy has one."""
        personal_term = self._site_rule.personal_term
        if personal_term is None:
            return None
        received = self._starts.full_state(state, kept)
        self._renew_own_module()
        self._module.load_state_dict(kept.state.get("personal") or received)
        term = personal_term(self._strategy.settings, received)
        optimizers = kept.state.get("personal_optimizers")
        return self._fit(round_number, "personal noise", term, optimizers, report=None)

    def _check_memory(self, kept: Kept, accepted_round: int | None) -> None:
        """The server's sums hold what this site kept: without it they would be wrong for all."""
        if not self._site_rule.mirrored or accepted_round is None or accepted_round == -1:
            return
        if kept.round_number != accepted_round:
            raise DataError(
                f"{self._store.path(accepted_round)}: what {self._strategy.name} kept here after "
                f"round {accepted_round} is missing, and the server counts on it; put it back, or "
                "start the run anew under another name or seed"
            )

    def _kept(self, round_number: int, accepted_round: int | None = None) -> Kept:
        """What the last round left that this site took part in and the server took."""
        last = round_number if accepted_round is None else min(round_number, accepted_round + 1)
        return Kept(*(self._store.load(last) or (-1, {})))

    def _keep(self, round_number: int, started_from: int, **state: Any) -> None:
        """Save what is not empty."""
        full = {name: value for name, value in state.items() if value}
        if full:
            self._store.save(round_number, full, started_from)

    def _fresh_state(self, seed: int) -> State:
        return _on_cpu(build_networks(self._experiment.model, seed).state_dict())

    def _renew_own_module(self) -> None:
        """Train with a new module of a lab's own: what the last one kept does not outlive its fit.

        Results would hang on what this process did before, and pictures of patients might stay.
        """
        if self._experiment.model.module.is_own:
            self.__dict__.pop("_module", None)

    @cached_property
    def _module(self) -> pl.LightningModule:
        experiment, noise = self._experiment, self._patient_noise
        if not self._asked_memory:
            check_memory(experiment, self._hardware, noise.slices if noise else None)
        module = build_module(experiment.model, experiment.training, experiment.seed, noise)
        for name in self._networks.names:  # one copy of the networks in memory, not two
            self._built[name] = getattr(module, name)
        return module


def _on_cpu(state: Mapping[str, Tensor]) -> State:
    return {key: value.detach().cpu().clone() for key, value in state.items()}
