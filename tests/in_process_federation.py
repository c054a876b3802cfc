"""A whole federation in one process: the jobs' aggregators and learners in a loop.

What the simulator does in processes and messages this does in a loop, so that many strategies can
be compared bit for bit in seconds. Messages take the same form: arrays by name, checked on arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from nvflare.apis.dxo import from_shareable
from nvflare.apis.event_type import EventType
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare_fakes import Engine, train_answer, with_peer
from torch import Tensor

from app_custom.aggregation.aggregator import Aggregator
from app_custom.aggregation.model_message import last_accepted_round, pack, unpack
from app_custom.server.outgoing_model import StrategyModelGenerator
from lightning_modules.combining.updates import Weights
from lightning_modules.configuration import ExperimentConfig, experiment_values
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.sharing.local_parts import sharing_scope
from lightning_modules.sharing.shared_networks import SharedNetworks
from lightning_modules.strategies.catalogue import strategy_values
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner, RoundResult
from lightning_modules.training.local_state import LocalStateStore
from lightning_modules.training.participation import EVERYBODY, Participation
from partitions.preparation import PreparedSite

Tamper = Callable[[Weights, Weights], Weights]
"""From the received and the trained weights to what a site sends."""


class InProcessFederation:
    """Sites that train for real around a server that aggregates for real.

    Args:
        experiment: the experiment.
        sites: prepared sites by name.
        folder: where the sites' local state goes.
        min_sites: fewest updates that make a round.
        participation: says which part of a round's steps a site does.

    Attributes:
        weights: the global model.
        round_number: the next round.
        results: what each site's learner returned in the last round.
        refused: sites whose update was refused in the last round.
    """

    def __init__(
        self,
        experiment: ExperimentConfig,
        sites: Mapping[str, PreparedSite],
        folder: Path,
        min_sites: int = 1,
        participation: Participation = EVERYBODY,
    ) -> None:
        self.experiment = experiment
        self._participation = participation
        self._sites = dict(sites)
        self._folder = folder
        local = sharing_scope(experiment).local
        model = experiment_values(experiment)["model"]
        networks = SharedNetworks(
            model, experiment.sharing, experiment.seed, local, experiment.data.preparation.size
        )
        self.aggregator = Aggregator(
            strategy_values(experiment.strategy),
            min_sites,
            partial_networks=not experiment.model.described.paired,
            sites_keep_optimizers=experiment.training.optimizer_state == "keep",
        )
        components = {
            "persistor": SimpleNamespace(model=networks),
            "aggregator": self.aggregator,
        }
        self.engine = Engine(sites=tuple(sites), components=components)
        self._generator = StrategyModelGenerator("aggregator")
        self.weights: Weights = {k: v.numpy() for k, v in networks.state_dict().items()}
        self.round_number = 0
        self.results: dict[str, RoundResult] = {}
        self.refused: list[str] = []
        self.aggregator.handle_event(EventType.START_RUN, self.engine.new_context())

    def learner(self, site: str) -> Learner:
        """A learner of a site, new as in a new process."""
        slices = TrainingSlices([self._sites[site].split("train")])
        store = LocalStateStore(self._folder / site)
        steps = self._participation.steps(site, self.experiment.training.steps)
        return Learner(self.experiment, site, slices, Hardware("cpu", "32-true", 1), store, steps)

    def run(
        self,
        rounds: int = 1,
        participants: Sequence[str] | None = None,
        tamper: Mapping[str, Tamper] | None = None,
    ) -> Weights:
        """Train rounds; returns the global model.

        Args:
            rounds: how many.
            participants: sites that answer; by default all.
            tamper: changes what a site sends.
        """
        for _ in range(rounds):
            self._round(participants or list(self._sites), tamper or {})
        return self.weights

    def tensors(self) -> dict[str, Tensor]:
        """The global model as a learner receives it."""
        return _tensors(self.weights)

    def _round(self, participants: Sequence[str], tamper: Mapping[str, Tamper]) -> None:
        ctx = self.engine.new_context()
        model = make_model_learnable(self.weights, {})
        ctx.set_prop(AppConstants.CURRENT_ROUND, self.round_number, private=True, sticky=True)
        ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
        self.aggregator.handle_event(AppEventType.ROUND_STARTED, ctx)
        self.refused, self.results = [], {}
        sent = from_shareable(self._generator.learnable_to_shareable(model, ctx))
        state, arrays = unpack(sent.data)
        for site in participants:
            result = self.learner(site).train(
                _tensors(state),
                self.round_number,
                extras=_tensors(arrays),
                accepted_round=last_accepted_round(site, sent.meta),
            )
            self.results[site] = result
            answer = {key: value.numpy() for key, value in result.state.items()}
            if site in tamper:
                answer = tamper[site](state, answer)
            extras = {k: v.numpy() for k, v in result.extras.items()}
            self._deliver(site, pack(answer, extras), result.samples)
        combined = self.aggregator.aggregate(self.engine.new_context())
        self.weights = from_shareable(combined).data
        self.aggregator.reset(self.engine.new_context())
        self.round_number += 1

    def _deliver(self, site: str, answer: Weights, samples: float) -> None:
        message = train_answer(answer, samples, self.round_number)
        if not self.aggregator.accept(message, with_peer(self.engine.new_context(), site)):
            self.refused.append(site)


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two models are equal to the last bit."""
    return one.keys() == other.keys() and all(
        np.array_equal(np.asarray(one[key]), np.asarray(other[key])) for key in one
    )


def _tensors(weights: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {key: torch.as_tensor(np.array(value)) for key, value in weights.items()}
